"""Archive released versions: one folder for each, which is never overwritten."""

import os
import shutil
from pathlib import Path

from pipeline.bundle.manifest import MANIFEST


class AlreadyKept(ValueError):
    """Another bundle of the same version is in the archive; the message says what to do."""


def let_others_read(bundle: Path) -> None:
    """Set the modes of a bundle to 0644 for files and 0755 for folders, whatever wrote them and whatever the umask."""
    bundle.chmod(0o755)
    for path in bundle.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def keep(bundle: Path, archive: Path, name: str, version: str) -> str:
    """Copy a bundle to `archive/name/version` atomically, and return a message.

    Raises
    ------
    AlreadyKept
        If the archive holds another bundle of this version.
    """
    place = archive / name / version
    if place.exists():
        if _manifest(place) == _manifest(bundle):
            return f"{place}: already archived, unchanged"
        raise AlreadyKept(f"release.keep: {place} holds another {name} {version}; increase release.version")
    half = place.with_name(f".{version}.{os.getpid()}")
    shutil.copytree(bundle, half)
    try:
        half.rename(place)  # fails where another process was faster
    except OSError as error:
        shutil.rmtree(half)
        raise AlreadyKept(f"release.keep: {place} was written by another process; check it") from error
    return f"{place}: archived"


def _manifest(bundle: Path) -> bytes | None:
    file = bundle / MANIFEST
    return file.read_bytes() if file.exists() else None
