"""folds: train folds side by side, on this machine or through SLURM; DVC keeps the books as if `dvc repro` had run.

Every draw is seeded by what it is for and by the name of its fold, so that it does not matter what runs beside what.
The number of threads does: sums over another number of them differ in their last digits, as under `dvc repro`.
Whoever needs the same bytes sets OMP_NUM_THREADS; it is kept.
"""

import argparse
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from queue import Queue
from typing import Any

import yaml

from pipeline import paths, runtime
from pipeline.errors import UserError
from pipeline.params import DVC_FILE, for_stage, load

log = logging.getLogger(__name__)

OUTPUT = {"adapt": paths.ADAPTED, "finetune": paths.FOLDS}  # of the stages, in the order in which a fold passes them
LOGS = paths.SCRATCH / "folds"
LAST_LINES = 20
Environment = dict[str, str]


@dataclass(frozen=True)
class Job:
    """What is run for a fold: of each stage, in order, the words after `python -m`."""

    fold: str
    commands: dict[str, list[str]]


@dataclass(frozen=True)
class Outcome:
    """What became of a fold: the seconds it took, the stages that were run, and what failed, if anything did."""

    fold: str
    seconds: float
    done: tuple[str, ...]
    failed: str | None
    log: Path

    def __str__(self) -> str:
        return f"{self.failed} failed" if self.failed else "ok"


Runner = Callable[[Job, Environment], Outcome]


def run(arguments: argparse.Namespace) -> None:
    """Train the folds, print a row for each, and refuse in the end if one failed."""
    known = load().split.folds
    strangers = [fold for fold in arguments.folds if fold not in known]
    if strangers:
        raise UserError(f"split.folds does not name {', '.join(strangers)}; what it names is {', '.join(known)}")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs is {arguments.jobs}; at least one fold runs at a time")
    folds = list(dict.fromkeys(arguments.folds)) or list(known)
    stages = [stage for stage in OUTPUT if stage in arguments.stages]
    tell(LAUNCHERS[arguments.launcher](folds, stages, arguments.jobs))


def local(
    folds: Sequence[str], stages: Sequence[str], at_a_time: int | None, runner: Runner | None = None
) -> list[Outcome]:
    """Run each fold through DVC in processes of this machine; a fold that fails does not stop the others.

    Parameters
    ----------
    folds, stages : sequence of str
        Names of `split.folds`, and stages in order.
    at_a_time : int or None
        How many folds run side by side; None is one on each GPU, and one where there is none.
    runner : callable
        Runs a job in an environment (default: `run_job`).
    """
    repro("split")
    todo = [through_dvc(fold, stages) for fold in folds]
    places = places_for(len(todo), at_a_time)
    free: Queue[Environment] = Queue()
    for place in places:
        free.put(place)

    def run_in_free_place(job: Job) -> Outcome:
        place = free.get()
        try:
            return (runner or run_job)(job, place)
        finally:
            free.put(place)

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(run_in_free_place, todo))


def dummy(folds: Sequence[str], stages: Sequence[str], at_a_time: int | None) -> list[Outcome]:
    """Print what `local` would run, and run nothing."""
    print("python -m dvc repro split")
    for fold, place in zip(folds, cycle(places_for(len(folds), at_a_time)), strict=False):
        for words in through_dvc(fold, stages).commands.values():
            print(*(f"{name}={value}" for name, value in place.items()), "python -m", shlex.join(words))
    return []


def slurm(folds: Sequence[str], stages: Sequence[str], at_a_time: int | None) -> list[Outcome]:
    """Queue what changed as one array of jobs on the shared disk, wait, and enter what succeeded in DVC's books.

    The jobs run the bare stages: on a cluster's nodes, DVC's locks would have to cross the network.

    Raises
    ------
    UserError
        If submitit or SLURM is missing, or parameters or code changed while the jobs ran; nothing is entered then.
    """
    executor = runtime.slurm_executor(LOGS / "slurm", at_a_time or len(folds))
    repro("split")
    todo = [job for job in bare(folds, stages) if job.commands]
    before, start = recipe(stages), time.perf_counter()
    queued = runtime.submitted(executor, run_bare, todo)
    outcomes = {job.fold: outcome_of(job, handle, start) for job, handle in zip(todo, queued, strict=True)}
    enter(outcomes.values(), unchanged=recipe(stages) == before)
    return [outcomes.get(fold, Outcome(fold, 0.0, (), None, log_of(fold))) for fold in folds]


LAUNCHERS: dict[str, Callable[[Sequence[str], Sequence[str], int | None], list[Outcome]]] = {
    "local": local,
    "slurm": slurm,
    "dummy": dummy,
}


def through_dvc(fold: str, stages: Iterable[str]) -> Job:
    """Let DVC run what changed of a fold: `-s` touches no other stage, and the lock is waited for."""
    return Job(fold, {stage: ["dvc", "--wait-for-lock", "repro", "-s", f"{stage}@{fold}"] for stage in stages})


def bare(folds: Sequence[str], stages: Sequence[str]) -> list[Job]:
    """Name the stages of each fold themselves, from the first one on that changed."""
    changed = set(
        yaml.safe_load(runtime.dvc("status", "--json", *(f"{stage}@{fold}" for fold in folds for stage in stages)))
    )

    def stale(fold: str) -> Sequence[str]:
        return next((stages[at:] for at, stage in enumerate(stages) if f"{stage}@{fold}" in changed), [])

    return [Job(fold, {stage: ["pipeline", stage, "--fold", fold] for stage in stale(fold)}) for fold in folds]


def places_for(n_folds: int, at_a_time: int | None) -> list[Environment]:
    """Assign GPUs and cores to the folds that run at a time; threads that the environment sets are kept.

    Returns
    -------
    list of dict
        Of each place, the variables that its folds get; more places than GPUs share them in turn.
    """
    gpus = runtime.cuda_devices()
    count = min(at_a_time or len(gpus) or 1, n_folds)
    alone = count == 1  # then it has the threads that it would have under `dvc repro`
    threads = {} if alone or "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": threads_of_each(count)}
    return [({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}) | threads for place in range(count)]


def threads_of_each(count: int) -> str:
    """Share the cores of this machine; one each at least."""
    return str(max((os.cpu_count() or 1) // count, 1))


def run_job(job: Job, place: Environment) -> Outcome:
    """Run the stages of a fold until one fails; what they say goes to the log of the fold."""
    output = log_of(job.fold)
    output.parent.mkdir(parents=True, exist_ok=True)
    start, done, failed = time.perf_counter(), list[str](), None
    with output.open("w") as file:
        for stage, words in job.commands.items():
            ran = subprocess.run(
                [sys.executable, "-m", *words], env=runtime.surroundings(place), stdout=file, stderr=subprocess.STDOUT
            )
            if ran.returncode:
                failed = stage
                break
            done.append(stage)
    outcome = Outcome(job.fold, time.perf_counter() - start, tuple(done), failed, output)
    log.info("fold %s: %s after %.0f s", job.fold, outcome, outcome.seconds)
    return outcome


def run_bare(job: Job) -> Outcome:
    """Run a job without DVC; as it does, remove old outputs first: they may be hard links into its cache."""
    for stage in job.commands:
        shutil.rmtree(OUTPUT[stage] / job.fold, ignore_errors=True)
    given = os.environ.get("SLURM_CPUS_PER_TASK")  # not every cluster keeps a job to the cores that it was given
    return run_job(job, {"OMP_NUM_THREADS": given} if given and "OMP_NUM_THREADS" not in os.environ else {})


def outcome_of(job: Job, queued: Any, start: float) -> Outcome:
    """Wait for a queued job; one that the cluster killed has failed, and the cluster's log says why."""
    try:
        outcome: Outcome = queued.result()
    except RuntimeError:
        return Outcome(job.fold, time.perf_counter() - start, (), "the cluster's job", queued.paths.stderr)
    return outcome


def enter(outcomes: Iterable[Outcome], unchanged: bool) -> None:
    """Enter in DVC's books what ran without it, if what it went by is still what is there.

    Raises
    ------
    UserError
        If that changed while the jobs ran.
    """
    finished = [f"{stage}@{outcome.fold}" for outcome in outcomes for stage in outcome.done]
    if finished and not unchanged:
        raise UserError(
            "the parameters, code or cases of these stages changed while the jobs ran, so DVC was not told of their "
            f"results; take the change back and `dvc commit -f {' '.join(finished)}`, or run the folds again"
        )
    if finished:
        runtime.dvc("commit", "-f", *finished)


def recipe(stages: Sequence[str]) -> list[Any]:
    """Collect what the stages go by, so that two moments can be compared: parameters, code, cases."""
    declared = yaml.safe_load(DVC_FILE.read_text())["stages"]
    files = [Path(dep) for stage in stages for dep in declared[stage]["deps"] if "${" not in dep]
    state = [file.stat().st_mtime_ns if file.is_dir() else file.read_bytes() for file in files]
    return [*map(for_stage, stages), *state]


def tell(outcomes: Sequence[Outcome]) -> None:
    """Print a row per fold; show the end of the log of each that failed, and refuse.

    Raises
    ------
    UserError
        If a fold failed; it names the log.
    """
    if outcomes:
        print(f"{'fold':<20} {'seconds':>8}  outcome")
    for outcome in outcomes:
        print(f"{outcome.fold:<20} {outcome.seconds:8.1f}  {outcome}")
    failed = [outcome for outcome in outcomes if outcome.failed]
    for outcome in failed:
        print(f"\nthe end of {outcome.log}:", *last_lines(outcome.log), sep="\n", file=sys.stderr)
    if failed:
        told = "\n".join(f"fold {outcome.fold}: {outcome}, see {outcome.log}" for outcome in failed)
        raise UserError(f"{told}\nOnce that is mended, the same command runs what is missing")


def last_lines(file: Path) -> list[str]:
    """Read the end of a log, if there is one."""
    return file.read_text(errors="replace").splitlines()[-LAST_LINES:] if file.exists() else []


def log_of(fold: str) -> Path:
    """Name the file that keeps what the stages of a fold said."""
    return LOGS / f"{fold}.log"


def repro(stage: str) -> None:
    """Bring a stage and all before it up to date, on the terminal: only there may the audit tell original names."""
    runtime.dvc("repro", stage, to_terminal=True)
