"""Train folds in parallel, on this machine or through SLURM; DVC records the results as after `dvc repro`.

Each random seed depends on its purpose and its fold only, so that the order of the folds has no effect. The number of
threads changes the last digits of sums, as under `dvc repro`; OMP_NUM_THREADS, if set, is kept.
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

OUTPUT = {"adapt": paths.ADAPTED, "finetune": paths.FOLDS}  # output folder of each stage, in the order of the stages
LOGS = paths.SCRATCH / "folds"
LAST_LINES = 20
Environment = dict[str, str]


@dataclass(frozen=True)
class Job:
    """The commands of a fold: for each stage, in order, the words after `python -m`."""

    fold: str
    commands: dict[str, list[str]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a fold: seconds, completed stages, and the stage that failed, if any."""

    fold: str
    seconds: float
    done: tuple[str, ...]
    failed: str | None
    log: Path

    def __str__(self) -> str:
        return f"{self.failed} failed" if self.failed else "ok"


Runner = Callable[[Job, Environment], Outcome]


def run(arguments: argparse.Namespace) -> None:
    """Train the folds and print a row for each.

    Raises
    ------
    UserError
        If a fold or --jobs is invalid, or a fold failed.
    """
    known = load().split.folds
    unknown = [fold for fold in arguments.folds if fold not in known]
    if unknown:
        raise UserError(f"split.folds has no fold {', '.join(unknown)}; choose from {', '.join(known)}")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs is {arguments.jobs}; choose a number from 1 on")
    folds = list(dict.fromkeys(arguments.folds)) or list(known)
    stages = [stage for stage in OUTPUT if stage in arguments.stages]
    print_outcomes(LAUNCHERS[arguments.launcher](folds, stages, arguments.jobs))


def local(
    folds: Sequence[str], stages: Sequence[str], at_a_time: int | None, runner: Runner | None = None
) -> list[Outcome]:
    """Run each fold through DVC in processes on this machine; a fold that fails does not stop the others.

    Parameters
    ----------
    folds, stages : sequence of str
        Names of `split.folds`, and stages in order.
    at_a_time : int or None
        Number of folds in parallel; None means one on each GPU, or one without a GPU.
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
    """Submit the changed stages as an array of jobs, wait, and commit the successful ones to DVC.

    The jobs run the stages without DVC, whose locks do not work reliably across nodes.

    Raises
    ------
    UserError
        If submitit or SLURM is missing, or parameters or code changed while the jobs ran; nothing is committed then.
    """
    executor = runtime.slurm_executor(LOGS / "slurm", at_a_time or len(folds))
    repro("split")
    todo = [job for job in bare(folds, stages) if job.commands]
    before, start = snapshot(stages), time.perf_counter()
    queued = runtime.submitted(executor, run_bare, todo)
    outcomes = {job.fold: outcome_of(job, handle, start) for job, handle in zip(todo, queued, strict=True)}
    commit(outcomes.values(), unchanged=snapshot(stages) == before)
    return [outcomes.get(fold, unchanged_outcome(fold)) for fold in folds]


LAUNCHERS: dict[str, Callable[[Sequence[str], Sequence[str], int | None], list[Outcome]]] = {
    "local": local,
    "slurm": slurm,
    "dummy": dummy,
}


def through_dvc(fold: str, stages: Iterable[str]) -> Job:
    """Run the changed stages of a fold through DVC; `-s` runs no other stage, and DVC waits for its lock."""
    return Job(fold, {stage: ["dvc", "--wait-for-lock", "repro", "-s", f"{stage}@{fold}"] for stage in stages})


def bare(folds: Sequence[str], stages: Sequence[str]) -> list[Job]:
    """List the stages of each fold from the first changed one on, to be run without DVC."""
    changed = set(
        yaml.safe_load(runtime.dvc("status", "--json", *(f"{stage}@{fold}" for fold in folds for stage in stages)))
    )

    def stale(fold: str) -> Sequence[str]:
        return next((stages[at:] for at, stage in enumerate(stages) if f"{stage}@{fold}" in changed), [])

    return [Job(fold, {stage: ["pipeline", stage, "--fold", fold] for stage in stale(fold)}) for fold in folds]


def places_for(n_folds: int, at_a_time: int | None) -> list[Environment]:
    """Assign GPUs and cores to parallel folds; a number of threads set in the environment is kept.

    Returns
    -------
    list of dict
        Environment variables of each place; if there are more places than GPUs, they share GPUs in turn.
    """
    gpus = runtime.cuda_devices()
    count = min(at_a_time or len(gpus) or 1, n_folds)
    alone = count == 1  # same number of threads as under `dvc repro`
    threads = {} if alone or "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": threads_of_each(count)}
    return [({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}) | threads for place in range(count)]


def threads_of_each(count: int) -> str:
    """Divide the cores of this machine; at least one each."""
    return str(max((os.cpu_count() or 1) // count, 1))


def run_job(job: Job, place: Environment) -> Outcome:
    """Run the stages of a fold until one fails; their output goes to the log of the fold."""
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
    outcome = Outcome(fold=job.fold, seconds=time.perf_counter() - start, done=tuple(done), failed=failed, log=output)
    log.info("fold %s: %s after %.0f s", job.fold, outcome, outcome.seconds)
    return outcome


def run_bare(job: Job) -> Outcome:
    """Run a job without DVC. First remove old outputs, as DVC does: they may be hard links into its cache."""
    for stage in job.commands:
        shutil.rmtree(OUTPUT[stage] / job.fold, ignore_errors=True)
    given = os.environ.get("SLURM_CPUS_PER_TASK")  # not every cluster limits a job to its cores
    return run_job(job, {"OMP_NUM_THREADS": given} if given and "OMP_NUM_THREADS" not in os.environ else {})


def unchanged_outcome(fold: str) -> Outcome:
    """Give the outcome of a fold that is up to date."""
    return Outcome(fold=fold, seconds=0.0, done=(), failed=None, log=log_of(fold))


def outcome_of(job: Job, queued: Any, start: float) -> Outcome:
    """Wait for a queued job. A job that the cluster killed has failed; the log of the cluster gives the reason."""
    try:
        outcome: Outcome = queued.result()
    except RuntimeError:
        seconds = time.perf_counter() - start
        return Outcome(fold=job.fold, seconds=seconds, done=(), failed="the cluster's job", log=queued.paths.stderr)
    return outcome


def commit(outcomes: Iterable[Outcome], unchanged: bool) -> None:
    """Commit to DVC the results of stages that ran without it, if their inputs are unchanged.

    Raises
    ------
    UserError
        If the inputs changed while the jobs ran.
    """
    finished = [f"{stage}@{outcome.fold}" for outcome in outcomes for stage in outcome.done]
    if finished and not unchanged:
        raise UserError(
            "parameters, code or cases changed while the jobs ran, so the results were not committed to DVC; undo the "
            f"change and run `dvc commit -f {' '.join(finished)}`, or run the folds again"
        )
    if finished:
        runtime.dvc("commit", "-f", *finished)


def snapshot(stages: Sequence[str]) -> list[Any]:
    """Collect parameters, code and cases of the stages, to detect a change between two moments."""
    declared = yaml.safe_load(DVC_FILE.read_text())["stages"]
    files = [Path(dep) for stage in stages for dep in declared[stage]["deps"] if "${" not in dep]
    state = [file.stat().st_mtime_ns if file.is_dir() else file.read_bytes() for file in files]
    return [*map(for_stage, stages), *state]


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print a row for each fold, and the end of the log of each failed one.

    Raises
    ------
    UserError
        If a fold failed; the message names the log.
    """
    if outcomes:
        print(f"{'fold':<20} {'seconds':>8}  outcome")
    for outcome in outcomes:
        print(f"{outcome.fold:<20} {outcome.seconds:8.1f}  {outcome}")
    failed = [outcome for outcome in outcomes if outcome.failed]
    for outcome in failed:
        print(f"\nlast lines of {outcome.log}:", *last_lines(outcome.log), sep="\n", file=sys.stderr)
    if failed:
        failures = "\n".join(f"fold {outcome.fold}: {outcome}, see {outcome.log}" for outcome in failed)
        raise UserError(f"{failures}\nCorrect the cause and run the same command again; it continues where it stopped")


def last_lines(file: Path) -> list[str]:
    """Read the last lines of a log, if it exists."""
    return file.read_text(errors="replace").splitlines()[-LAST_LINES:] if file.exists() else []


def log_of(fold: str) -> Path:
    """Name the file with the output of the stages of a fold."""
    return LOGS / f"{fold}.log"


def repro(stage: str) -> None:
    """Update a stage and those before it. The output goes to the terminal, as the audit may print original names."""
    runtime.dvc("repro", stage, to_terminal=True)
