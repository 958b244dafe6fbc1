"""What runs on this machine and how far it came: from DVC's lock file, the processes, and checkpoints.

What runs on another machine shows only by what it leaves behind. Nothing is written.
"""

import json
import pickle
import time
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from pipeline import paths

Job = tuple[str, str]  # a stage and its fold; "" where it has none


def being_written(rwlock: Path) -> set[str]:
    """Read from DVC's lock file which paths a process that is alive writes."""
    try:
        known = json.loads(rwlock.read_text())
    except (FileNotFoundError, ValueError):  # never locked, or just being rewritten
        return set()
    return {path for path, info in known.get("write", {}).items() if info and psutil.pid_exists(info["pid"])}


def processes_here() -> dict[Job, float]:
    """Find the stages that processes of this machine run in this folder, and when they began."""
    found: dict[Job, float] = {}
    for process in psutil.process_iter(["cmdline", "create_time"]):
        job = job_of(process.info["cmdline"] or [])
        if job and is_here(process):
            found[job] = min(process.info["create_time"], found.get(job, float("inf")))
    return found


def job_of(words: Sequence[str]) -> Job | None:
    """Read the stage and the fold from the words `python -m pipeline STAGE --fold FOLD`."""
    for at in range(len(words) - 2):
        if list(words[at : at + 2]) == ["-m", "pipeline"]:
            options = list(words[at + 3 :])
            return words[at + 2], options[1] if options[:1] == ["--fold"] else ""
    return None


def is_here(process: psutil.Process) -> bool:
    """Tell whether a process works in this folder; another user's does not say."""
    try:
        return Path(process.cwd()) == Path.cwd()
    except psutil.Error:
        return False


def training_of(stage: str, fold: str) -> str:
    """Say how far the training of a fold came that left a checkpoint; nothing of another stage."""
    found = list(paths.checkpoints(fold).glob("*.pt")) if stage == "finetune" else []
    if not found:
        return ""
    latest = max(found, key=lambda file: file.stat().st_mtime)
    return f"{latest.stem}, epoch {epoch_of(latest)}, {duration(time.time() - latest.stat().st_mtime)} ago"


def epoch_of(checkpoint: Path) -> str:
    """Read the last epoch of a checkpoint; one that is being replaced tells none."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            return str(PlainValues(BytesIO(archive.read(entry))).load()["curve"][-1]["epoch"])
    except (OSError, zipfile.BadZipFile, StopIteration, LookupError):
        return "?"


class PlainValues(pickle.Unpickler):
    """Read numbers, text, lists and dicts of a checkpoint; all else is passed over, so that no code of it can run.

    `torch.load` would do, but to import torch takes longer than all of `status`.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Take an empty thing for whatever is not a plain value."""
        return lambda *_: PassedOver()

    def persistent_load(self, pid: Any) -> None:
        """Leave the numbers of tensors where they are."""


class PassedOver(dict[Any, Any]):
    """Stands for a value that is not read."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing of it."""


def duration(seconds: float | None) -> str:
    """Write seconds as a person would say them."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
