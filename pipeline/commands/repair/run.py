"""Restore dvc.lock and damaged outputs, and say what was done."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.commands.running import processes_here
from pipeline.digests import Recorded, content_of, hash_of, recorded
from pipeline.errors import UserError
from pipeline.lock_file import restore_lock

READ_WRITE_LOCK = Path(".dvc/tmp/rwlock")


def run(arguments: argparse.Namespace) -> None:
    """Repair and print a line for each file, or that there was nothing to do.

    Raises
    ------
    UserError
        If this folder is no project of DVC, or stages are running in it.
    """
    if not Path(".dvc").is_dir():
        raise UserError("there is no folder .dvc here: run the command in the project's top folder")
    if running := [stage for stage, _ in processes_here() if stage != "repair"]:
        raise UserError(f"{', '.join(sorted(set(running)))} is running in this folder; wait until it ends, or stop it")
    done = [line for line in (restore_lock(), restore_read_write_lock()) if line]
    known = list(recorded())
    done += [line for one in known for line in repaired(one)]
    print("\n".join(done) or f"nothing to repair: {len(known)} outputs have the content that dvc.lock recorded")
    if done:
        print("next: `dvc repro`")


def restore_read_write_lock() -> str:
    """Remove DVC's list of files in use if a kill cut it off."""
    if not READ_WRITE_LOCK.exists():
        return ""
    try:
        json.loads(READ_WRITE_LOCK.read_text())
        return ""
    except ValueError:
        READ_WRITE_LOCK.unlink()
        return f"{READ_WRITE_LOCK} was cut off; removed"


def repaired(one: Recorded) -> Iterator[str]:
    """Restore the copy of an output in the project and the one in DVC's cache from each other, or remove both."""
    here, kept = one.path.exists(), one.object.exists()
    good_here, good_kept = here and hash_of(one.path) == one.md5, kept and one.is_object_whole()
    if here and not good_here and good_kept and not one.path.is_dir():
        replace(one.path, one.object.read_bytes())
        yield f"{one.path}: damaged; restored from DVC's cache"
    elif here and not good_here:
        shutil.rmtree(one.path) if one.path.is_dir() else one.path.unlink()
        yield f"{one.path}: damaged, and DVC's cache has no good copy; removed, {one.stage} computes it again"
    if kept and not good_kept and good_here:
        replace(one.object, content_of(one.path))
        one.object.chmod(0o444)
        yield f"{one.object}: damaged; restored from {one.path}"
    elif kept and not good_kept:
        one.object.unlink()
        yield f"{one.object}: damaged; removed"


def replace(file: Path, content: bytes) -> None:
    """Write a file in the place of another one, which may be a hard link to a third one."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_bytes(content)
    partial.replace(file)
