"""Write and verify the SHA-256 hashes of the files of a bundle.

The hashes are verified before any file is opened. They detect accidents, such as a broken download or an edited file.
They do not detect forgery; only a signature does.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.imaging.reading.access import access_error

MANIFEST = "MANIFEST.json"
SEAL = "MANIFEST.json.sha256"  # in the format of `sha256sum -c`
SIGNATURE = "MANIFEST.json.sig"  # written last, by `signature.sign`
RESULTS = "eval"  # where MONAI writes predictions; nothing is loaded from there
LARGEST = 2**24  # bytes of a manifest


class BrokenBundle(ValueError):
    """A bundle that is missing, incomplete, changed or not readable; the message names the file."""


class UnreadableBundle(BrokenBundle):
    """A bundle that the system does not let this user read; this says nothing about its contents."""


@contextmanager
def readable(bundle: Path) -> Iterator[None]:
    """Turn an error of the system, such as a missing permission, into an UnreadableBundle within the context."""
    try:
        yield
    except OSError as error:
        raise UnreadableBundle(access_error(Path(error.filename or bundle), error)) from error


def sha256_of(file: Path) -> str:
    """Hash a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(bundle: Path, facts: dict[str, Any]) -> None:
    """Write MANIFEST.json with the hash of every other file and `facts` about the run, then its own hash."""
    files = {str(file.relative_to(bundle)): sha256_of(file) for file in files_of(bundle)}
    (bundle / MANIFEST).write_text(json.dumps({"files": files, **facts}, indent=2, sort_keys=True) + "\n")
    (bundle / SEAL).write_text(_seal(sha256_of(bundle / MANIFEST)))


def verify_manifest(bundle: Path) -> dict[str, Any]:
    """Check that a bundle holds exactly the files of its manifest, unchanged; return the manifest.

    Raises
    ------
    BrokenBundle
        If the manifest is absent, unreadable or not the one that was sealed, or a file is missing, changed or not
        listed.
    UnreadableBundle
        If a file or folder cannot be read.
    """
    with readable(bundle):
        return compared(bundle, read_manifest(bundle))


def compared(bundle: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Compare every file of a bundle with its hash in the manifest; return the manifest."""
    listed, present = manifest["files"], {str(file.relative_to(bundle)) for file in files_of(bundle)}
    for name in sorted(present | set(listed)):
        if name not in present:
            raise BrokenBundle(f"{bundle / name} is missing; take the bundle from its source again")
        if name not in listed:
            raise BrokenBundle(f"{bundle / name} is not part of this bundle; remove it")
        if not (bundle / name).is_file() or sha256_of(bundle / name) != listed[name]:
            raise BrokenBundle(f"{bundle / name} has changed since the release; take the bundle from its source again")
    return manifest


def read_manifest(bundle: Path) -> dict[str, Any]:
    """Check the manifest by its own hash, then read it."""
    again = "take the bundle from its source again, or release it again"
    for name in (MANIFEST, SEAL):
        if not (bundle / name).is_file() or (bundle / name).stat().st_size > LARGEST:
            raise BrokenBundle(f"{bundle / name} is missing or unreadable; {again}")
    if (bundle / SEAL).read_bytes() != _seal(sha256_of(bundle / MANIFEST)).encode():
        raise BrokenBundle(f"{bundle / MANIFEST} or its {SEAL} has changed since the release; {again}")
    try:
        manifest: dict[str, Any] = json.loads((bundle / MANIFEST).read_bytes())
        dict[str, str](manifest["files"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenBundle(f"{bundle / MANIFEST} is missing or unreadable; {again}") from error
    return manifest


def files_of(bundle: Path) -> list[Path]:
    """List every file and link except the manifest, its hash and signature, and results of runs.

    Raises
    ------
    OSError
        If a folder cannot be listed; its files would look as if they were missing.
    """
    known = [bundle / name for name in (MANIFEST, SEAL, SIGNATURE)]
    walk = os.walk(bundle, onerror=_throw)
    found = (Path(root) / name for root, folders, files in walk for name in (*folders, *files))
    files = (file for file in found if (file.is_symlink() or not file.is_dir()) and file not in known)
    return sorted(file for file in files if file.relative_to(bundle).parts[0] != RESULTS)


def code_in(package: Path) -> dict[str, Any]:
    """Identify the code that made a release.

    Returns
    -------
    dict
        `sha256` of all its files and their names; the git `commit`, and whether files changed since (`dirty`), both
        None outside of git.
    """
    files = (file for file in sorted(package.rglob("*")) if file.is_file() and "__pycache__" not in file.parts)
    lines = [f"{sha256_of(file)}  {file.relative_to(package).as_posix()}\n" for file in files]
    commit, changes = (_git(package, *words) for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."]))
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"sha256": digest, "commit": commit, "dirty": None if commit is None else bool(changes)}


def environment() -> dict[str, Any]:
    """List the version of Python and of every installed package."""
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    packages = dict(sorted((name.lower(), version) for name, version in found.items() if name))
    return {"python": platform.python_version(), "system": sys.platform, "packages": packages}


def _throw(error: OSError) -> None:
    raise error


def _git(folder: Path, *words: str) -> str | None:
    try:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _seal(digest: str) -> str:
    return f"{digest}  {MANIFEST}\n"
