"""Train folds as jobs of SLURM, and record their results in DVC."""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline import clusters, runtime
from pipeline.commands.fold_jobs import LOGS, OUTPUT, Job, Outcome, bare, changed, log_of, repro, run_job
from pipeline.errors import UserError
from pipeline.params import for_stage
from pipeline.yaml_files import declared_stages


def slurm(folds: Sequence[str], stages: Sequence[str], at_a_time: int | None) -> list[Outcome]:
    """Submit the changed stages as an array of jobs, wait, and commit the successful ones to DVC.

    The jobs run the stages without DVC, whose locks do not work reliably across nodes.

    Raises
    ------
    UserError
        If submitit or SLURM is missing, or parameters or code changed while the jobs ran; nothing is committed then.
    """
    executor = clusters.slurm_executor(LOGS / "slurm", at_a_time or len(folds))
    repro("split")
    todo = [job for job in changed(folds, stages, bare) if job.commands]
    before, start = snapshot(stages), time.perf_counter()
    queued = clusters.submitted(executor, run_bare, todo)
    outcomes = {job.fold: outcome_of(job, handle, start) for job, handle in zip(todo, queued, strict=True)}
    commit(outcomes.values(), unchanged=snapshot(stages) == before)
    return [outcomes.get(fold, unchanged_outcome(fold)) for fold in folds]


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
    declared = declared_stages()
    files = [Path(dep) for stage in stages for dep in declared[stage]["deps"] if "${" not in dep]
    state = [file.stat().st_mtime_ns if file.is_dir() else file.read_bytes() for file in files]
    return [*map(for_stage, stages), *state]
