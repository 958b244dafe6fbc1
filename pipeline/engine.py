"""Where work runs. Read from the environment only, so that a machine's facts never invalidate a result.

MEDADAPT_WORKERS   processes for work that is done case by case (default: the cores of this machine)
MEDADAPT_BACKEND   joblib backend for that work: loky (default) or threading
MEDADAPT_DEVICE    cpu forbids the GPU (default: CUDA where there is one; CUDA_VISIBLE_DEVICES says which)
MEDADAPT_KEYS      private folder of salts and names (default: ~/.medadapt)
"""

import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from pipeline.refusal import Refusal

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers() -> int:
    """Count the processes that work case by case may use."""
    given = os.environ.get("MEDADAPT_WORKERS", "0")
    if not given.isdigit():
        raise Refusal(f"the environment variable MEDADAPT_WORKERS is '{given}'; it takes a number of processes")
    return int(given) or os.cpu_count() or 1


def map_cases(function: Callable[[Item], Result], items: Iterable[Item], doing: str) -> list[Result]:
    """Apply `function` to each item, side by side, and return the results in the order of the items.

    Parameters
    ----------
    function : callable
        A module-level function of one item; it must not depend on the other items.
    items : iterable
        One entry per case.
    doing : str
        The words beside the progress bar.
    """
    todo = list(items)
    with parallel_config(backend=os.environ.get("MEDADAPT_BACKEND", "loky")):
        parallel = Parallel(n_jobs=min(workers(), max(len(todo), 1)), return_as="generator")
        done = parallel(delayed(function)(item) for item in todo)
        return list(progress(done, doing, len(todo)))


def progress(items: Iterable[Item], doing: str, total: int | None = None) -> Iterable[Item]:
    """Show a progress bar with the time left; only on a terminal, so that logs stay readable."""
    return tqdm(items, desc=doing, total=total, disable=None, leave=False)


def keys_folder() -> Path:
    """Name the private folder that holds salts and original names; never inside the project's tracked folders."""
    return Path(os.environ.get("MEDADAPT_KEYS", Path.home() / ".medadapt"))


def device() -> str | None:
    """Name the device to train on ("cpu"), or None to let accelerate choose."""
    return os.environ.get("MEDADAPT_DEVICE")


@contextmanager
def metered(record: Path) -> Iterator[None]:
    """Write the seconds and the peak memory (MiB) of a block to `record`, which nothing hashed depends on."""
    start = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"seconds": round(time.perf_counter() - start, 1), "peak_mib": round(peak)}) + "\n")
