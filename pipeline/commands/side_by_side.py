"""Train folds side by side on this machine, one on each GPU or core."""

import logging
import os
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from queue import Queue

import psutil  # type: ignore[import-untyped]

from pipeline import runtime
from pipeline.commands.fold_jobs import (
    LOGS,
    OUTPUT,
    Environment,
    Job,
    Outcome,
    changed,
    print_outcomes,
    repro,
    run_job,
    through_dvc,
)
from pipeline.progress import progress, reported

log = logging.getLogger(__name__)

GIB_EACH = 3  # memory for a fold on a processor
Runner = Callable[[Job, Environment], Outcome]


def train_changed(folds: Sequence[str], of_run: Sequence[str]) -> None:
    """Train the changed folds side by side; do nothing if this machine takes one at a time, as `dvc repro` does.

    Parameters
    ----------
    of_run : sequence of str
        The stages of the whole run, for the progress.

    Raises
    ------
    UserError
        If a fold failed.
    """
    if len(places_for(len(folds), None)) > 1:
        repro("split")
        jobs = [job for job in changed(folds, list(OUTPUT), through_dvc) if job.commands]
        print_outcomes(side_by_side(jobs, places_for(len(jobs), None, of_run)) if jobs else [])


def local(
    folds: Sequence[str], stages: Sequence[str], at_a_time: int | None, runner: Runner | None = None
) -> list[Outcome]:
    """Run each fold through DVC in processes on this machine; a fold that fails does not stop the others.

    Parameters
    ----------
    folds, stages : sequence of str
        Names of `split.folds`, and stages in order.
    at_a_time : int or None
        Number of folds in parallel; None takes the number of `at_once`.
    runner : callable
        Runs a job in an environment (default: `run_job`).
    """
    repro("split")
    todo = [through_dvc(fold, stages) for fold in folds]
    return side_by_side(todo, places_for(len(todo), at_a_time), runner)


def side_by_side(todo: Sequence[Job], places: Sequence[Environment], runner: Runner | None = None) -> list[Outcome]:
    """Run jobs in places that each take one at a time, and report how many are done."""
    free: Queue[Environment] = Queue()
    for place in places:
        free.put(place)

    def run_in_free_place(job: Job) -> Outcome:
        place = free.get()
        try:
            return (runner or run_job)(job, place)
        finally:
            free.put(place)

    log.info("%d folds, %d at a time; the output of each fold is in %s", len(todo), len(places), LOGS)
    with reported("folds"), ThreadPoolExecutor(len(places)) as pool:
        return list(progress(pool.map(run_in_free_place, todo), "trained", len(todo)))


def dummy(folds: Sequence[str], stages: Sequence[str], at_a_time: int | None) -> list[Outcome]:
    """Print what `local` would run, and run nothing."""
    print("python -m dvc repro split")
    for fold, place in zip(folds, cycle(places_for(len(folds), at_a_time)), strict=False):
        for words in through_dvc(fold, stages).commands.values():
            print(*(f"{name}={value}" for name, value in place.items()), "python -m", shlex.join(words))
    return []


def places_for(n_folds: int, at_a_time: int | None, of_run: Sequence[str] = ()) -> list[Environment]:
    """Assign GPUs and cores to parallel folds; a number of threads set in the environment is kept.

    Parameters
    ----------
    at_a_time : int or None
        Number of folds in parallel; None takes the number of `at_once`.
    of_run : sequence of str
        The stages of the whole run, for the progress.

    Returns
    -------
    list of dict
        Environment variables of each place; if there are more places than GPUs, they share GPUs in turn.
    """
    gpus = runtime.cuda_devices()
    count = min(at_a_time or at_once(len(gpus)), n_folds)
    alone = count == 1  # same number of threads as under `dvc repro`
    shared = {} if alone or "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": threads_of_each(count)}
    shared |= {"MEDADAPT_STAGES": " ".join(of_run)} if of_run else {}
    return [({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}) | shared for place in range(count)]


def at_once(n_gpus: int) -> int:
    """Count the folds that this machine trains at once: one per GPU, else one per core that has memory for it."""
    memory = psutil.virtual_memory().total / 2**30
    return n_gpus or max(min(runtime.workers(), int(memory / GIB_EACH)), 1)


def threads_of_each(count: int) -> str:
    """Divide the cores of this machine; at least one each."""
    return str(max((os.cpu_count() or 1) // count, 1))
