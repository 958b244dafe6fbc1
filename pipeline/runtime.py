"""Decide where work runs, from environment variables only, so that facts of a machine never invalidate a result.

MEDADAPT_WORKERS   processes for work that is done case by case (default: the cores of this machine)
MEDADAPT_BACKEND   where they run: loky (default), threading, dask, ray or slurm (see clusters.py)
MEDADAPT_DEVICE    cpu forbids the GPU (default: CUDA where there is one; CUDA_VISIBLE_DEVICES says which)
MEDADAPT_SLURM_*   what each job asks SLURM for (see clusters.py)
MEDADAPT_MEMORY_GIB  memory for the cases of a training (default: 8); further cases stay on disk
MEDADAPT_CACHE_GIB   size of the activation cache on disk, for all runs together (default: 20)
MEDADAPT_CHECKPOINT_SECONDS  least time between two checkpoints of a training (default: 5)
MEDADAPT_LIVE      tensorboard or dvclive: curves while a training runs (see live.py)
MEDADAPT_KEYS      private folder of salts and names (default: ~/.medadapt)
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, count, islice, takewhile
from pathlib import Path
from typing import TypeVar

from pipeline import clusters
from pipeline.errors import UserError
from pipeline.lock_file import locked_stages
from pipeline.private import make_private
from pipeline.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

WITHOUT_GIT = ". There is no git repository here: call `git init`, or `dvc config core.no_scm true` to do without"
TASKS_OF_WORKER, CASES_OF_TASK = 8, 256  # so many tasks each, unless a task would take more cases


def workers() -> int:
    """Count the processes for work that is done case by case."""
    given = os.environ.get("MEDADAPT_WORKERS", "0")
    if not given.isdigit():
        raise UserError(f"the environment variable MEDADAPT_WORKERS is '{given}'; it takes a number of processes")
    return int(given) or os.cpu_count() or 1


def map_cases(function: Callable[[Item], Result], items: Iterable[Item], doing: str) -> list[Result]:
    """Apply a function to each item in parallel, many in a task, and return the results in the order of the items.

    Parameters
    ----------
    function : callable
        A module-level function of one item; it must not depend on the other items.
    items : iterable
        One entry per case.
    doing : str
        Label of the progress bar.
    """
    return map_batches(partial(_each, function=function), items, doing)


def map_batches(function: Callable[[Sequence[Item]], list[Result]], items: Iterable[Item], doing: str) -> list[Result]:
    """Apply a function to batches of the items in parallel; its results are in the order of the items, as here."""
    todo = list(items)
    size = min(max(len(todo) // (TASKS_OF_WORKER * workers()), 1), CASES_OF_TASK)
    tasks = [todo[start : start + size] for start in range(0, len(todo), size)]
    name, work = os.environ.get("MEDADAPT_BACKEND", "loky"), partial(in_folder, Path.cwd(), function)
    with clusters.engine(name, workers()) as run:
        return list(progress(chain.from_iterable(run(work, tasks)), doing, len(todo)))


def _each(items: Sequence[Item], function: Callable[[Item], Result]) -> list[Result]:
    return [function(item) for item in items]


def in_folder(folder: Path, function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> list[Result]:
    """Apply a function to a batch of items on a worker, which may have been started in another folder or machine."""
    if Path.cwd() != folder:
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserError(
                f"a worker on {platform.node()} does not see {folder} ({error.strerror}); put the project on a disk "
                "that all machines of the cluster share under one path, or set MEDADAPT_BACKEND to loky"
            ) from error
    return function(items)


def keys_folder() -> Path:
    """Name the private folder of salts and original names, which is outside the project's tracked folders."""
    usual = Path.home() / ".medadapt"
    if "MEDADAPT_KEYS" not in os.environ and usual.is_dir():
        make_private(usual)
    return Path(os.environ.get("MEDADAPT_KEYS", usual))


def cuda_devices() -> list[str]:
    """List the usable GPUs in the notation of CUDA_VISIBLE_DEVICES; none if MEDADAPT_DEVICE is cpu."""
    if device() == "cpu":
        return []
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (visible.split(",") if visible else [str(number) for number in range(count)])[:count]


def device() -> str | None:
    """Name the device to train on ("cpu"), or None to let accelerate choose."""
    return os.environ.get("MEDADAPT_DEVICE")


def dvc(*words: str, to_terminal: bool = False, stages: Sequence[str] = ()) -> str:
    """Run a command of DVC and return its output; an empty text if the output goes to the terminal.

    Parameters
    ----------
    stages : sequence of str
        The stages that the caller lets DVC run; the caller then prints the summary of the run.

    Raises
    ------
    UserError
        If dvc.lock was cut off, or the command fails.
    """
    locked_stages()
    target = None if to_terminal else subprocess.PIPE
    environment = surroundings({"MEDADAPT_STAGES": " ".join(stages)} if stages else {})
    ran = subprocess.run([sys.executable, "-m", "dvc", *words], env=environment, stdout=target, text=True)
    if ran.returncode:
        without_git = (
            "" if any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)) else WITHOUT_GIT
        )
        raise UserError(f"`dvc {' '.join(words)}` failed; see its message above{without_git}")
    return ran.stdout or ""


def stages_of_run() -> list[str]:
    """Name the stages up to the target of `medadapt run`, which prints the summary itself; none outside of it."""
    return os.environ.get("MEDADAPT_STAGES", "").split()


def surroundings(place: dict[str, str]) -> dict[str, str]:
    """Extend this process's environment, with this Python first in PATH, so that DVC starts it without a venv."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}", **place}


def number(variable: str, usual: float) -> float:
    """Read a number from an environment variable, e.g. MEDADAPT_CACHE_GIB or MEDADAPT_CHECKPOINT_SECONDS."""
    given = os.environ.get(variable, str(usual))
    try:
        return float(given)
    except ValueError as error:
        raise UserError(f"the environment variable {variable} is '{given}'; it takes a number") from error


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """Draw the next item in the background while the current one is used; order and errors do not change."""
    source = iter(items)
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(lambda: list(islice(source, 1)))
        while found := coming.result():
            coming = worker.submit(lambda: list(islice(source, 1)))
            yield found[0]


def prefetch_passes(draw: Callable[[int], Iterable[Item]]) -> Callable[[int], Iterator[Item]]:
    """Prefetch the items of successive passes, including the first item of a pass while the previous one ends.

    Parameters
    ----------
    draw : callable
        draw(n) yields the items of pass n; there is no last pass.

    Returns
    -------
    callable
        Yields the same items by the number of the pass; only consecutive passes are prefetched.
    """
    end = object()
    stream: Iterator[Item | object] = iter(())
    coming: int | None = None

    def give(number: int) -> Iterator[Item]:
        nonlocal stream, coming
        if number != coming:
            stream = prefetch(item for one in count(number) for item in chain(draw(one), [end]))
        coming = None  # a pass that is abandoned before its end does not lead to the next one
        yield from takewhile(lambda item: item is not end, stream)
        coming = number + 1

    return give
