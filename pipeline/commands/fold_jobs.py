"""The jobs of a run of folds: which stages of a fold changed, how they are run, and what became of them."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline import paths, runtime
from pipeline.errors import UserError

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


def through_dvc(fold: str, stages: Iterable[str]) -> Job:
    """Run the changed stages of a fold through DVC; `-s` runs no other stage, and DVC waits for its lock."""
    return Job(fold, {stage: ["dvc", "--wait-for-lock", "repro", "-s", f"{stage}@{fold}"] for stage in stages})


def bare(fold: str, stages: Iterable[str]) -> Job:
    """Run the stages of a fold without DVC."""
    return Job(fold, {stage: ["pipeline", stage, "--fold", fold] for stage in stages})


def changed(folds: Sequence[str], stages: Sequence[str], job_of: Callable[[str, Sequence[str]], Job]) -> list[Job]:
    """List a job for each fold, of its stages from the first changed one on."""
    names = [f"{stage}@{fold}" for fold in folds for stage in stages]
    stale = set(yaml.safe_load(runtime.dvc("status", "--json", *names)))

    def from_first_changed(fold: str) -> Sequence[str]:
        return next((stages[at:] for at, stage in enumerate(stages) if f"{stage}@{fold}" in stale), [])

    return [job_of(fold, from_first_changed(fold)) for fold in folds]


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


def log_of(fold: str) -> Path:
    """Name the file with the output of the stages of a fold."""
    return LOGS / f"{fold}.log"


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


def repro(stage: str) -> None:
    """Update a stage and those before it. The output goes to the terminal, as the audit may print original names."""
    runtime.dvc("repro", stage, to_terminal=True)
