"""Read dvc.lock, where DVC records what each stage read and wrote, and put it back after a kill cut it off.

DVC writes dvc.lock in place, so a kill at that moment leaves a part of it, which DVC refuses from then on. Every stage
therefore keeps a copy of the whole file as it begins; DVC's run cache has the results of the stage that ran last.
"""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError
from pipeline.yaml_files import with_libyaml

LOCK = Path("dvc.lock")
HASHES = {"md5", "etag", "checksum"}
KEPT = Path(".dvc/tmp/medadapt.lock")  # git and DVC ignore it
WRITING = 10.0  # seconds in which another process may be writing it
CURE = "a process was killed while DVC wrote it; `medadapt repair` puts the last whole one back"

Stages = dict[str, Any]


def stages_in(text: str | bytes) -> Stages:
    """Read the records of a dvc.lock by stage.

    Raises
    ------
    ValueError
        If the text is no whole dvc.lock.
    """
    try:
        found = with_libyaml(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError("it is not valid YAML") from error
    stages = found.get("stages") if isinstance(found, dict) else None
    if not isinstance(stages, dict) or not all(map(_is_whole, stages.values())):
        raise ValueError("it is cut off")
    return stages


def _is_whole(record: Any) -> bool:
    """Check that a record names a hash of each of its files."""
    if not isinstance(record, dict):
        return False
    files = [file for kind in ("deps", "outs") for file in record.get(kind) or ()]
    return all(isinstance(file, dict) and "path" in file and HASHES & file.keys() for file in files)


def locked_stages() -> Stages:
    """Read the records of dvc.lock by stage; empty if there is none.

    Raises
    ------
    UserError
        If it was cut off.
    """
    while LOCK.exists():
        try:
            return stages_in(LOCK.read_bytes())
        except ValueError as error:
            if time.time() - LOCK.stat().st_mtime > WRITING:
                raise UserError(f"{LOCK} cannot be read: {error}; {CURE}") from error
        time.sleep(0.1)
    return {}


def keep_lock() -> None:
    """Keep a copy of a whole dvc.lock, for `repair`; a folder that cannot be written has none."""
    if not LOCK.exists() or not KEPT.parent.parent.is_dir():
        return
    try:
        stages_in(LOCK.read_bytes())
        KEPT.parent.mkdir(exist_ok=True)
        partial = KEPT.with_suffix(".partial")
        shutil.copyfile(LOCK, partial)
        partial.replace(KEPT)
    except (ValueError, OSError):
        return


def restore_lock() -> str:
    """Put a whole dvc.lock in the place of one that was cut off; return a sentence about it, or "" if it is whole."""
    try:
        locked_stages()
        return ""
    except UserError:
        pass
    for source, text in (("the copy that the last stage kept", _kept()), ("git", _committed())):
        try:
            known = len(stages_in(text)) if text else 0
        except ValueError:
            continue
        if text:
            partial = LOCK.with_name(f"{LOCK.name}.partial")
            partial.write_bytes(text)
            partial.replace(LOCK)
            return f"{LOCK} was cut off; restored from {source}, with {known} stages"
    LOCK.unlink()
    return f"{LOCK} was cut off, and there is no copy of it in .dvc/tmp or git; removed"


def _kept() -> bytes:
    return KEPT.read_bytes() if KEPT.exists() else b""


def _committed() -> bytes:
    git = shutil.which("git")
    shown = subprocess.run([git, "show", f"HEAD:./{LOCK}"], capture_output=True) if git else None
    return shown.stdout if shown and not shown.returncode else b""
