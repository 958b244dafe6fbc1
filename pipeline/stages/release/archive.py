"""Where released versions are kept: a folder for each, written once."""

import os
import shutil
from pathlib import Path

from pipeline.bundle.manifest import MANIFEST


class AlreadyKept(ValueError):
    """A version that is there, and is another one; the message says what to do."""


def keep(bundle: Path, archive: Path, name: str, version: str) -> str:
    """Copy a bundle to `archive/name/version`, whole or not at all, and say what was done.

    Raises
    ------
    AlreadyKept
        If that version is there and is not this very bundle.
    """
    place = archive / name / version
    if place.exists():
        if _manifest(place) == _manifest(bundle):
            return f"{place}: kept before, the same"
        raise AlreadyKept(f"release.keep: {place} holds another {name} {version}, which stays; raise release.version")
    half = place.with_name(f".{version}.{os.getpid()}")
    shutil.copytree(bundle, half)
    try:
        half.rename(place)  # fails where another process was faster
    except OSError as error:
        shutil.rmtree(half)
        raise AlreadyKept(f"release.keep: {place} appeared meanwhile; look what it is") from error
    return f"{place}: kept"


def _manifest(bundle: Path) -> bytes | None:
    file = bundle / MANIFEST
    return file.read_bytes() if file.exists() else None
