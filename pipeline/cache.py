"""Cache results by case: a case is computed again only if its file, the code or the settings changed.

The cache is in data/scratch, which DVC does not track, and may be deleted at any time.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray

from pipeline import paths, runtime
from pipeline.errors import UserError
from pipeline.packs import Packs
from pipeline.prepared import as_npy
from pipeline.yaml_files import declared_code

Item = TypeVar("Item")
Arrays = Mapping[str, NDArray[Any]]
PACKAGE = Path(__file__).parent
CHANGED = "it changed while it was read; if another stage runs in this folder, wait until it ends, then run it again"


class Results:
    """Results of cases: their plain values, and the arrays that were stored with them.

    Parameters
    ----------
    packs : Packs
    keys : sequence of str
    values : mapping
        Plain values by key, and the places of the arrays by name.
    """

    def __init__(self, packs: Packs, keys: Sequence[str], found: Mapping[str, "Entry"]) -> None:
        self._packs, self._keys, self._found = packs, keys, found

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._found[key].values for key in self._keys)

    def has(self, number: int, name: str) -> bool:
        """Tell whether a case has an array of that name."""
        return name in self._found[self._keys[number]].places

    def array(self, number: int, name: str) -> bytes:
        """Read an array of a case as the content of a file `.npy`."""
        key = self._keys[number]
        content, (start, end) = self._packs.read(key), self._found[key].places[name]
        if content is None:
            raise UserError(f"{self._packs.folder}: {CHANGED}")
        return content[start:end]


class Entry(NamedTuple):
    """Plain values of a case, and where its arrays begin and end in the stored content."""

    values: dict[str, Any]
    places: dict[str, tuple[int, int]]


def map_cases_once(
    function: Callable[[Item], tuple[dict[str, Any], Arrays]], items: Sequence[Item], keys: Sequence[str], doing: str
) -> Results:
    """Apply a function to the items with a new key, and read the results of the others; delete all other entries.

    An entry that is not as it was written is told, deleted and computed again. What a killed run completed is kept.

    Parameters
    ----------
    function : callable
        Takes an item; returns plain values, and arrays by name.
    items : sequence
    keys : sequence of str
        One per item, from `key_of`: identifies everything that the result depends on.
    doing : str
        Label of the progress bar, and name of the folder.

    Returns
    -------
    Results
        In the order of the items.
    """
    folder = paths.SCRATCH / doing
    folder.mkdir(parents=True, exist_ok=True)
    for former in [entry.path for entry in os.scandir(folder) if entry.is_dir()]:  # of versions before packs
        shutil.rmtree(former)
    packs = Packs(folder)
    found = _entries(packs, keys)
    new = {key: item for key, item in zip(keys, items, strict=True) if key not in found}
    if new:
        runtime.map_batches(partial(_compute, function=function, folder=folder), list(new.items()), doing)
        found |= _entries(packs, new)
    if not found.keys() >= new.keys():
        raise UserError(f"{folder}: {CHANGED}")
    packs.keep_only(found)
    return Results(packs, keys, found)


def _compute(
    jobs: Sequence[tuple[str, Item]], function: Callable[[Item], tuple[dict[str, Any], Arrays]], folder: Path
) -> list[None]:
    """Compute entries, and append each to a pack of this batch when it is complete."""
    with closing(Packs(folder)) as packs:
        for key, item in jobs:
            packs.write(key, _as_content(*function(item)))
    return [None] * len(jobs)


def _as_content(values: dict[str, Any], arrays: Arrays) -> bytes:
    """Write plain values and the lengths of the arrays as a line of JSON, then the arrays as `.npy`."""
    stored = {name: as_npy(array) for name, array in arrays.items()}
    lengths = {name: len(content) for name, content in stored.items()}
    return b"".join([json.dumps({"values": values, "arrays": lengths}).encode(), b"\n", *stored.values()])


def _entries(packs: Packs, keys: Iterable[str]) -> dict[str, Entry]:
    """Read the entries of those keys that have one, and compare them with their hashes."""
    return {key: _entry(content) for key, content in packs.read_each(dict.fromkeys(keys))}


def _entry(content: bytes) -> Entry:
    line, _, _ = content.partition(b"\n")
    written, start, places = json.loads(line), len(line) + 1, {}
    for name, length in written["arrays"].items():
        places[name] = (start, start + length)
        start += length
    return Entry(written["values"], places)


def key_of(file: Path, code: str, *settings: Any) -> str:
    """Identify a computation by the state of a file or folder (sizes and modification times), code and settings.

    Parameters
    ----------
    code : str
        From `code_of`, of the stage whose function is cached.
    *settings : plain values
        Everything else that the result depends on.
    """
    files = [file]
    if file.suffix.lower() in (".hdr", ".img", ".mhd", ".nhdr"):
        files = sorted(file.parent.glob(f"{file.stem}.*"))
    elif file.is_dir():
        files = sorted(path for path in file.rglob("*") if path.is_file())
    state = [(path.name, *found) for path in files if (found := _size_and_time(path))]
    return hashlib.sha256(json.dumps([state, settings, code], default=str).encode()).hexdigest()[:32]


def _size_and_time(file: Path) -> tuple[int, int] | None:
    """Read size and modification time of a file; None if it is not there."""
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size, found.st_mtime_ns


def fingerprint(code: str, files: Iterable[Path], *settings: Any) -> str:
    """Identify a training by everything that it depends on.

    Parameters
    ----------
    code : str
        From `code_of`, of the stage that trains.
    files : iterable of Path
        The input files, hashed by name and content.
    *settings : values
        Parameters, the seed and versions of libraries, hashed by their `repr`.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    digest = hashlib.sha256(repr((code, settings)).encode())
    for file in files:
        digest.update(f"{file.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


@cache
def code_of(stage: str, without: tuple[str, ...] = ()) -> str:
    """Hash the code that a stage lists under `deps` in dvc.yaml, so that DVC and every cache use the same list.

    dvc.yaml is read from the current folder, as in `params.for_stage`; the code is that of the running package.
    Files in `__pycache__` are left out. The hash is computed once per process.

    Parameters
    ----------
    stage : str
        The name in dvc.yaml; without the fold for a matrix stage, e.g. "adapt".
    without : tuple of str
        Files or folders of that list on which the cached result does not depend, e.g. "pipeline/metrics".

    Returns
    -------
    str
        SHA-256, hexadecimal, of the paths and contents of these files.

    Raises
    ------
    UserError
        If dvc.yaml lists a file or folder that does not exist.
    """
    digest = hashlib.sha256()
    for file in code_files(stage):
        name = file.relative_to(PACKAGE.parent)
        if not any(name.is_relative_to(folder) for folder in without):
            digest.update(f"{name.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def code_files(stage: str) -> list[Path]:
    """List the code files that a stage declares, sorted and without repetition."""
    files: set[Path] = set()
    for entry in declared_code(stage):
        path = PACKAGE.parent / entry
        if not path.exists():
            raise UserError(f"dvc.yaml: the stage {stage} depends on {entry}, which does not exist; correct its deps")
        below = path.rglob("*") if path.is_dir() else [path]
        files |= {file for file in below if file.is_file() and "__pycache__" not in file.parts}
    return sorted(files)
