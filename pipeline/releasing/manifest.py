"""SHA-256 of every file of a bundle, checked before anything in it is opened.

Hashes find accidents: a broken download, a file that was edited. They do not find forgery; only a signature does.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST = "MANIFEST.json"
RESULTS = "eval"  # where MONAI writes what it predicted; nothing is ever loaded from there


class BrokenBundle(ValueError):
    """A bundle that is not what was released; the message names the file."""


def sha256_of(file: Path) -> str:
    """Hash a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(bundle: Path, facts: dict[str, Any]) -> None:
    """Write MANIFEST.json: the hash of every other file, and `facts` about the run."""
    files = {str(file.relative_to(bundle)): sha256_of(file) for file in files_of(bundle)}
    (bundle / MANIFEST).write_text(json.dumps({"files": files, **facts}, indent=2, sort_keys=True) + "\n")


def verify_manifest(bundle: Path) -> dict[str, Any]:
    """Check that a bundle holds exactly the files of its manifest, unchanged; return the manifest.

    Raises
    ------
    BrokenBundle
        If the manifest is absent or unreadable, or a file is missing, changed or not listed.
    """
    try:
        manifest: dict[str, Any] = json.loads((bundle / MANIFEST).read_text())
        listed: dict[str, str] = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenBundle(
            f"{bundle / MANIFEST} is missing or unreadable; take the bundle from its source again"
        ) from error
    present = {str(file.relative_to(bundle)) for file in files_of(bundle)}
    for name in sorted(present | set(listed)):
        if name not in present:
            raise BrokenBundle(f"{bundle / name} is missing; take the bundle from its source again")
        if name not in listed:
            raise BrokenBundle(f"{bundle / name} is not part of this bundle; remove it")
        if sha256_of(bundle / name) != listed[name]:
            raise BrokenBundle(f"{bundle / name} has changed since the release; take the bundle from its source again")
    return manifest


def files_of(bundle: Path) -> list[Path]:
    """List every file of a bundle but its manifest and the results of runs."""
    files = (file for file in bundle.rglob("*") if file.is_file() and file != bundle / MANIFEST)
    return sorted(file for file in files if file.relative_to(bundle).parts[0] != RESULTS)
