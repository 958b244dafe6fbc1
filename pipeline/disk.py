"""Say in one sentence that a disk is full or a folder cannot be written, and let one process at a time write a file."""

import errno
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline import paths
from pipeline.errors import UserError
from pipeline.lock_file import locked_stages
from pipeline.yaml_files import declared_stage

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
IN_WORDS = {  # libraries that write from other languages keep the text of the system, or none
    errno.ENOSPC: (
        "No space left on device",
        "Disk quota exceeded",
        "disk is full",
        "inline_container",  # torch
        " requested and ",  # numpy: "5000 requested and 16 written"
    ),
    errno.EROFS: ("Read-only file system", "readonly database", "unable to open database file"),
}
NO_ROOM = 2**20  # bytes; a disk with fewer is full


@contextmanager
def explained(stage: str = "", fold: str = "") -> Iterator[None]:
    """Turn the error of a full disk or a closed folder into a message, and remove what the stage left unfinished.

    Raises
    ------
    UserError
        If the block fails because of the disk. Other errors are raised as they are.
    """
    began = time.time()
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        kind, file = reason(error)
        if not kind:
            raise
        message = full(file, stage, fold) if kind in FULL else closed(file, kind)
        if stage:
            remove_unfinished(stage, fold, began)
        raise UserError(message) from error


def reason(error: BaseException | None) -> tuple[int, Path | None]:
    """Find in an error, or in those that caused it, the number of a fault of the disk, else 0, and the file."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (*FULL, *CLOSED):
            return error.errno, Path(os.fsdecode(error.filename)) if error.filename else None
        for number, texts in IN_WORDS.items():
            if any(text in str(error) for text in texts) and (number != errno.ENOSPC or full_folder(None)):
                return number, None
        error = error.__cause__ or error.__context__
    return 0, None


def full_folder(file: Path | None) -> Path | None:
    """Name the folder of a file, or of those that this program writes to the first one whose disk is full."""
    if file is not None:
        return next(folder for folder in file.absolute().parents if folder.is_dir())
    places = [Path("data"), Path.cwd(), Path(tempfile.gettempdir())]
    return next((place for place in places if place.is_dir() and shutil.disk_usage(place).free < NO_ROOM), None)


def full(file: Path | None, stage: str, fold: str) -> str:
    """Write the message of a full disk: folder, free and needed bytes, cure."""
    folder = full_folder(file) or Path("data")
    free = shutil.disk_usage(folder if folder.is_dir() else Path.cwd()).free
    size = last_size(f"{stage}@{fold}" if fold else stage)
    known = (
        f"{stage} wrote {size / 1e6:.1f} MB when it last ran" if size else "`medadapt plan` estimates what a run needs"
    )
    return (
        f"the disk of {folder} is full: {free / 1e6:.1f} MB are free; {known}. Make room (data/scratch may be deleted, "
        "and `dvc gc --workspace` deletes results of other settings), then run the same command again"
    )


def last_size(name: str) -> int:
    """Sum the bytes that a stage wrote when it last ran, as dvc.lock has them; 0 if it has not."""
    try:
        record = locked_stages().get(name, {})
    except UserError:
        return 0
    return sum(int(out.get("size", 0)) for out in record.get("outs") or ())


def closed(file: Path | None, number: int) -> str:
    """Write the message of a file or folder that this user may not write or read."""
    return (
        f"{file or Path.cwd()} is closed to this user ({os.strerror(number)}); change its rights, or copy the project "
        "to a folder that you may write"
    )


def remove_unfinished(stage: str, fold: str, began: float) -> None:
    """Remove outputs and partial files that a stage wrote before it failed; bundles are written as a whole anyway."""
    partial = [path for path in paths.SCRATCH.rglob("*.partial") if newer(path, began)]
    for path in [*(out for out in outputs(stage, fold) if newer(out, began)), *partial]:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def outputs(stage: str, fold: str) -> list[Path]:
    """List the outputs of a stage in dvc.yaml that DVC removes before it runs."""
    declared = declared_stage(stage)
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in declared.get(kind, ())]
    found = [(entry, {}) if isinstance(entry, str) else next(iter(entry.items())) for entry in entries]
    return [Path(name.replace("${item.fold}", fold)) for name, how in found if not (how or {}).get("persist")]


def newer(path: Path, began: float) -> bool:
    """Check whether a file, or any file of a folder, was written since a moment; coarse clocks lag a little."""
    with suppress(OSError):
        files = [path, *path.rglob("*")] if path.is_dir() else [path]
        return any(file.lstat().st_mtime > began - 0.1 for file in files)
    return False


@contextmanager
def alone(file: Path, said: str) -> Iterator[None]:
    """Hold a file open for this process alone; the system lets go of it when the process ends, however it ends.

    Raises
    ------
    UserError
        With the text `said`, if another process holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.exists()
    with file.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(said) from error
        except OSError:  # a disk of a network that has no locks
            log.debug("%s cannot be locked", file)
        try:
            yield
        finally:
            if new and file.exists() and not file.stat().st_size:
                file.unlink()
