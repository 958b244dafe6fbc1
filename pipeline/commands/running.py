"""Find what runs on this machine and its progress: from DVC's lock file, the processes and `progress.json`."""

import json
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from pipeline import paths
from pipeline.progress import duration

Job = tuple[str, str]  # a stage and its fold; "" without a fold


def being_written(rwlock: Path) -> set[str]:
    """Read from DVC's lock file the paths that a living process is writing."""
    try:
        known = json.loads(rwlock.read_text())
    except (FileNotFoundError, ValueError):  # never locked, or being rewritten now
        return set()
    return {path for path, info in known.get("write", {}).items() if info and psutil.pid_exists(info["pid"])}


def processes_here() -> dict[Job, float]:
    """Find the stages that run in this folder on this machine, and when they began (seconds since 1970)."""
    found: dict[Job, float] = {}
    for process in psutil.process_iter(["cmdline", "create_time"]):
        job = job_of(process.info["cmdline"] or [])
        if job and is_here(process):
            found[job] = min(process.info["create_time"], found.get(job, float("inf")))
    return found


def job_of(words: Sequence[str]) -> Job | None:
    """Read stage and fold from a command line: `python -m pipeline STAGE --fold FOLD` or `medadapt STAGE ...`.

    >>> job_of(["/usr/bin/python3", "/opt/bin/medadapt", "finetune", "--fold=final"])
    ('finetune', 'final')
    """
    for at, word in enumerate(words):
        console_script = at < 2 and Path(word).name == "medadapt"  # begun by itself, or by the interpreter
        if console_script or list(words[at - 1 : at + 1]) == ["-m", "pipeline"]:
            stage, *options = [*words[at + 1 :], ""]
            given = " ".join(options).replace("--fold=", "--fold ").split()
            return (stage, dict(pairwise(given)).get("--fold", "")) if stage else None
    return None


def is_here(process: psutil.Process) -> bool:
    """Check whether a process runs in this folder; the folder of another user's process is unknown."""
    try:
        return Path(process.cwd()) == Path.cwd()
    except psutil.Error:
        return False


def training_of(stage: str, fold: str) -> str:
    """Describe the progress of a training that left a checkpoint and did not end; "" if there is none."""
    file = paths.progress(stage, fold)
    try:
        found, written = json.loads(file.read_text()), file.stat().st_mtime
    except FileNotFoundError:
        return ""
    return f"{found['training']}, epoch {found['epoch']}, {duration(time.time() - written)} ago"


def activity_of(stage: str, fold: str) -> str:
    """Read what a running stage does now; "" if it has not said so yet."""
    try:
        return paths.activity(stage, fold).read_text()
    except OSError:  # it has just begun or ended
        return ""
