"""What a user points at to have it scored: a file, a DICOM series, a folder of scans, or a table; nothing is lost."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from pipeline.imaging.reading.companions import companions_of
from pipeline.imaging.reading.dicom import files_in, is_dicom
from pipeline.imaging.reading.volumes import is_readable
from pipeline.imaging.tables.cohort_table import TABLE, BadTable

Kind = Literal["volume", "image"]
IMAGE = ("image", "scan")  # the column that names the file: as in cohort.csv, or as in our own results
KNOWN = {"case": ("case_id", "case"), "patient": ("patient_id", "patient"), "site": ("site",)}


@dataclass(frozen=True)
class Listed:
    """A scan that somebody wants to have scored, readable or not.

    Attributes
    ----------
    name : str
        As the user knows it: the name of the file, its path below the folder, or what the table says.
    file : Path
        A file, or a folder with one DICOM series.
    known : dict
        What the table says of it: `case`, `patient`, `site` and `label`, each only if there is such a column.
    """

    name: str
    file: Path
    known: dict[str, str] = field(default_factory=dict)


def list_scans(path: Path, kind: Kind) -> list[Listed]:
    """List the scans at a path.

    Parameters
    ----------
    path : Path
        A file (of any kind: what cannot be read is refused when it is read); a folder with a DICOM series; a folder
        of scans, with all below it; a folder with a cohort.csv, or any table (.csv) with a column `image`.
    kind : {"volume", "image"}
        What the model takes: to one that takes images, every DICOM file is a scan of its own.

    Raises
    ------
    BadTable
        If a table has no such column or no rows, or a folder no file.
    """
    if path.suffix.lower() == ".csv":
        return read_list(path)
    if not path.is_dir():
        return [Listed(path.name, path)]
    if (path / TABLE).is_file():
        return read_list(path / TABLE)
    found = [Listed(_name(scan, path), scan) for scan in _scans_in(path, kind)]
    if not found:
        raise BadTable(f"{path} holds no file; name a scan, a folder of scans, or a table with a column image")
    return found


def read_list(file: Path) -> list[Listed]:
    """Read a table of scans; paths are relative to it. `BadTable` if it is none, or names no image."""
    if not file.is_file():
        raise BadTable(f"{file} is not there")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # pandas' own errors and those of the encoding are ValueErrors
        raise BadTable(f"{file} cannot be read as a table in UTF-8; save it as such") from error
    column = next((name for name in IMAGE if name in table), None)
    if column is None or table.empty:
        why = "has no rows" if column else f"lacks a column {' or '.join(IMAGE)}"
        raise BadTable(f"{file} {why}; it needs one row per scan, with its path relative to the table")
    known = {ours: next((name for name in theirs if name in table), None) for ours, theirs in KNOWN.items()}
    known |= {"label": "label" if "label" in table else None}
    return [
        Listed(row[column], file.parent / row[column], {ours: row[name] for ours, name in known.items() if name})
        for row in table.to_dict("records")
    ]


def _scans_in(folder: Path, kind: Kind) -> Iterator[Path]:
    """Go through a folder: a DICOM series is one scan, every other file is one, readable or not."""
    series = files_in(folder)
    if series and kind == "volume":
        yield folder
    beside: set[Path] = set()
    entries = [entry for entry in sorted(folder.iterdir()) if not _is_noise(entry)]
    for entry in entries:
        beside |= _companions(entry)
    for entry in entries:
        if entry.is_dir():
            yield from _scans_in(entry, kind)
        elif entry not in beside and not (kind == "volume" and entry in series):
            yield entry


def _companions(file: Path) -> set[Path]:
    """Name the files that hold the voxels of this one; of a pair that is named by either half, the header counts."""
    if file.is_dir() or file.suffix.lower() == ".img" or not is_readable(file) or is_dicom(file):
        return set()
    try:
        return {file.parent / name for name in companions_of(file)}
    except ValueError:  # the reader says what is missing
        return set()


def _is_noise(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name == "__MACOSX"


def _name(scan: Path, folder: Path) -> str:
    return folder.name if scan == folder else scan.relative_to(folder).as_posix()
