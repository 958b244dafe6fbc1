"""Read and write the prepared cases, which are stored in packs: a case is in the one that a hash of its name gives.

The same cases give the same bytes, and a new case changes one file. Arrays are entries in the format `.npy`.
"""

import hashlib
import io
import math
import mmap
import os
import shutil
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.errors import UserError
from pipeline.packs import ENDING, records_in, write_pack

DIGITS = 2  # of a hexadecimal hash, so that there are at most 256 packs
BEGIN = 10  # bytes of `.npy` before its header, the last two of which are its length


class Pack(NamedTuple):
    """A pack in memory, and where its entries begin."""

    content: mmap.mmap
    places: dict[str, int]


def read_channels(case: str) -> NDArray[np.uint8]:
    """Map the stored channels (P, H, W) of a case into memory, read-only.

    Raises
    ------
    UserError
        If they are not there.
    """
    found = _read(paths.PREPARED_CASES, case)
    if found is None:
        file = pack_of(paths.PREPARED_CASES, case)
        raise UserError(
            f"{file} lacks {case}: `dvc repro` runs the stage that writes it; `medadapt repair` restores it"
        )
    return found


def read_mask(case: str) -> NDArray[np.bool_] | None:
    """Map the mask of a case on the grid of its stored channels into memory, read-only; None if it has none."""
    return _read(paths.PREPARED_MASKS, case)


def pack_of(folder: Path, case: str) -> Path:
    """Name the pack in which a case is stored."""
    return folder / f"{hashlib.sha256(case.encode()).hexdigest()[:DIGITS]}{ENDING}"


def write_arrays(folder: Path, cases: Mapping[str, int], content: Callable[[int], bytes]) -> None:
    """Write an array of each case, and remove everything else from the folder; without cases, the folder itself.

    Parameters
    ----------
    cases : mapping
        Number of each case, by its name.
    content : callable
        Gives the array of the case of a number as the content of a file `.npy`.
    """
    by_file: dict[Path, list[str]] = {}
    for case in sorted(cases):
        by_file.setdefault(pack_of(folder, case), []).append(case)
    if not by_file:
        shutil.rmtree(folder, ignore_errors=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for file, names in by_file.items():
        write_pack(file, ((name, content(cases[name])) for name in names))
    for other in set(folder.iterdir()) - by_file.keys():
        other.unlink()


def as_npy(array: NDArray[Any]) -> bytes:
    """Convert an array to the content of a file `.npy`."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _read(folder: Path, case: str) -> NDArray[Any] | None:
    file = pack_of(folder, case)
    try:
        known = os.stat(file)
    except FileNotFoundError:
        return None
    pack = _opened(file, (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns))
    if case not in pack.places:
        return None
    start = pack.places[case]
    first = start + BEGIN + int.from_bytes(pack.content[start + BEGIN - 2 : start + BEGIN], "little")
    shape, by_column, kind = _header(pack.content[start:first])
    values = np.frombuffer(pack.content, kind, math.prod(shape), first)
    return values.reshape(shape, order="F" if by_column else "C")


@lru_cache(maxsize=1 << 8)
def _opened(file: Path, _: tuple[int, ...]) -> Pack:
    """Map a pack into memory; the numbers tell its states apart."""
    with file.open("rb") as stream:
        places = {record.name: record.start for record in records_in(stream)}
        return Pack(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), places)


@lru_cache
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, order and type from the header of a file `.npy`."""
    return np.lib.format.read_array_header_1_0(io.BytesIO(content[BEGIN - 2 :]))
