"""Check files by their content: what a stage reads against what an earlier stage wrote, and the entries of caches.

DVC takes a file as unchanged while its size and time are, which a damaged disk does not alter. Its hash of every output
stands in dvc.lock, so a stage compares the content of its inputs with it when it begins.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.errors import UserError
from pipeline.lock_file import LOCK, locked_stages
from pipeline.yaml_files import declared_files

log = logging.getLogger(__name__)

CACHE = Path(".dvc/cache/files/md5")
MOST_NAMES = 3  # files in a message
SHA256 = hashlib.sha256().digest_size
FAST = 4  # threads; hashing releases the interpreter's lock


@dataclass(frozen=True)
class Recorded:
    """An output as the stage that wrote it left it: a file, or a folder whose files DVC's cache does not list."""

    path: Path
    md5: str
    stage: str

    @property
    def object(self) -> Path:
        """The copy in DVC's cache; of a folder, the list of its files."""
        return cached(self.md5)

    def is_object_whole(self) -> bool:
        """Compare the copy in DVC's cache with its name."""
        return _md5(self.object.read_bytes()) == self.md5.removesuffix(".dir")

    def is_read_as(self, name: Path) -> bool:
        """Check whether a dependency is this file, or holds it, or is a part of it."""
        own, other = f"{self.path}/", f"{name}/"
        return own.startswith(other) or other.startswith(own)

    def differs(self) -> bool:
        """Compare the content with the hash; a file that is not there does not differ."""
        return self.path.exists() and hash_of(self.path) != self.md5


def check_inputs(stage: str, fold: str = "") -> None:
    """Check that the files which a stage reads are as an earlier stage wrote them.

    A stage that was started by hand may read files written after dvc.lock, of other stages started by hand.

    Raises
    ------
    UserError
        If a file has another content.
    """
    read = [Path(name.replace("${item.fold}", fold)) for name in declared_files(stage)]
    wrong = differing(one for one in recorded() if any(one.is_read_as(name) for name in read))
    if "DVC_STAGE" not in os.environ:
        written = LOCK.stat().st_mtime if wrong else 0
        wrong = [one for one in wrong if newest_in(one.path) <= written]
    if wrong:
        names = ", ".join(str(one.path) for one in wrong[:MOST_NAMES])
        more = f" and {len(wrong) - MOST_NAMES} more" if len(wrong) > MOST_NAMES else ""
        stages = " ".join(dict.fromkeys(one.stage for one in wrong))
        raise UserError(
            f"{names}{more}: the content is not what {stages} wrote ({LOCK} has its hash); a damaged disk or an edit "
            "changed it. `medadapt repair` restores it, or removes it so that `dvc repro` computes it again; after an "
            f"edit on purpose, `dvc commit -f {stages}` keeps it"
        )


def differing(records: Iterable[Recorded]) -> list[Recorded]:
    """Hash files side by side, and return those whose content differs."""
    todo = list(records)
    with ThreadPoolExecutor(min(FAST, os.cpu_count() or 1)) as pool:
        return [one for one, differs in zip(todo, pool.map(Recorded.differs, todo), strict=True) if differs]


def recorded() -> Iterator[Recorded]:
    """Read from dvc.lock every file that a stage wrote; of a folder, its files if DVC's cache lists them."""
    for stage, record in locked_stages().items():
        for out in record.get("outs") or ():
            if out.get("hash", "md5") != "md5":
                continue
            path, md5 = Path(out["path"]), str(out["md5"])
            files = listing(md5) if md5.endswith(".dir") else None
            if files is None:
                yield Recorded(path, md5, stage)
            else:
                yield from (Recorded(path / name, one, stage) for name, one in files.items())


def listing(md5: str) -> dict[str, str] | None:
    """Read the hashes of the files of a folder from DVC's cache; None if it lacks them or is damaged itself."""
    try:
        text = cached(md5).read_bytes()
    except OSError:
        return None
    if _md5(text) != md5.removesuffix(".dir"):
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(text)}


def cached(md5: str) -> Path:
    """Name the copy of an output in DVC's cache."""
    return CACHE / md5[:2] / md5[2:]


def hash_of(path: Path) -> str:
    """Hash a file, or a folder with its files, as DVC does."""
    if path.is_dir():
        return _md5(content_of(path)) + ".dir"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def content_of(path: Path) -> bytes:
    """Read a file, or list the files of a folder with their hashes, as DVC stores them in its cache."""
    if not path.is_dir():
        return path.read_bytes()
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    return json.dumps([{"md5": hash_of(file), "relpath": name} for name, file in files], sort_keys=True).encode()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def newest_in(path: Path) -> float:
    """Find when a file, or the newest file of a folder, was written."""
    files = path.rglob("*") if path.is_dir() else [path]
    return max((file.stat().st_mtime for file in files), default=0.0)


def write_sealed(content: bytes, file: Path) -> None:
    """Write the file of a cache atomically, and its hash at its end."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(f".{os.getpid()}.partial")
    try:
        partial_file.write_bytes(content + hashlib.sha256(content).digest())
        partial_file.replace(file)
    finally:
        partial_file.unlink(missing_ok=True)


def read_sealed(file: Path) -> bytes | None:
    """Read the file of a cache; None if there is none, or if it is damaged: then it is told and deleted."""
    try:
        whole = file.read_bytes()
    except FileNotFoundError:
        return None
    content, digest = whole[:-SHA256], whole[-SHA256:]
    if hashlib.sha256(content).digest() == digest:
        return content
    log.warning("%s was damaged; it is computed again", file)
    file.unlink(missing_ok=True)
    return None
