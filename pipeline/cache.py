"""Cache results by case: a case is computed again only if its file, the code or the settings changed.

The cache is in data/scratch, which DVC does not track, and may be deleted at any time.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from pipeline import digests, paths, runtime
from pipeline.errors import UserError
from pipeline.yaml_files import declared_code

log = logging.getLogger(__name__)

Item = TypeVar("Item")
PACKAGE = Path(__file__).parent


def map_cases_once(
    function: Callable[[Item, Path], dict[str, Any]], items: Sequence[Item], keys: Sequence[str], doing: str
) -> list[tuple[dict[str, Any], Path]]:
    """Apply a function to the items with a new key, and read the results of the others; delete all other entries.

    An entry whose files are not as they were written is told, deleted and computed again.

    Parameters
    ----------
    function : callable
        Takes an item and an empty folder in which it may store files; returns plain values.
    items : sequence
    keys : sequence of str
        One per item, from `key_of`: identifies everything that the result depends on.
    doing : str
        Label of the progress bar, and name of the folder.

    Returns
    -------
    list of (values, folder)
        In the order of the items.
    """
    folder = paths.SCRATCH / doing
    folder.mkdir(parents=True, exist_ok=True)
    drop_damaged([folder / key for key in dict.fromkeys(keys)])
    new = {key: item for key, item in zip(keys, items, strict=True) if not (folder / key).exists()}
    runtime.map_cases(partial(_compute, function=function, folder=folder), list(new.items()), doing)
    for gone in {entry.name for entry in folder.iterdir()} - set(keys):
        shutil.rmtree(folder / gone)
    return [(json.loads((folder / key / "result.json").read_text()), folder / key) for key in keys]


def drop_damaged(entries: Iterable[Path]) -> None:
    """Delete the entries of a cache whose content changed since they were written, and say so."""
    damaged = [entry for entry in entries if entry.exists() and not digests.is_intact(entry)]
    for entry in damaged:
        shutil.rmtree(entry)
    if damaged:
        folder = damaged[0].parent
        log.warning("%s: %d cached results are damaged or have no hash; they are computed again", folder, len(damaged))


def _compute(job: tuple[str, Item], function: Callable[[Item, Path], dict[str, Any]], folder: Path) -> None:
    """Compute an entry in a partial folder, which is renamed when it is complete."""
    key, item = job
    partial_folder = folder / f"{key}.partial"
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir()
    result = function(item, partial_folder)
    (partial_folder / "result.json").write_text(json.dumps(result))
    digests.seal(partial_folder)
    partial_folder.rename(folder / key)


def key_of(file: Path, code: str, *settings: Any) -> str:
    """Identify a computation by the state of a file or folder (sizes and modification times), code and settings.

    Parameters
    ----------
    code : str
        From `code_of`, of the stage whose function is cached.
    *settings : plain values
        Everything else that the result depends on.
    """
    files = sorted(path for path in file.rglob("*") if path.is_file()) if file.is_dir() else [file]
    if file.suffix.lower() in (".hdr", ".img", ".mhd", ".nhdr"):
        files = sorted(file.parent.glob(f"{file.stem}.*"))
    state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.exists()]
    return hashlib.sha256(json.dumps([state, settings, code], default=str).encode()).hexdigest()[:32]


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
