"""List the scans to predict: a file, a DICOM series, a folder of scans, or a table; no file is skipped silently."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.imaging.reading.access import access_error, in_utf8
from pipeline.imaging.reading.companions import companions_of
from pipeline.imaging.reading.dicom import counts_as_dicom, is_dicom
from pipeline.imaging.reading.volumes import is_readable
from pipeline.imaging.tables.cohort_table import MASK, TABLE, image_in
from pipeline.imaging.tables.text_table import BadTable, read_text_table

Kind = Literal["volume", "image"]
IMAGE = ("image", "scan")  # column with the path: in cohort.csv, or in results of `predict`
KNOWN = {"case": ("case_id", "case"), "patient": ("patient_id", "patient"), "site": ("site",)}


ENDINGS = "txt md rst csv tsv json xml yaml yml ini html htm pdf rtf doc docx odt xls xlsx ods log bval bvec"
DOCUMENTS = tuple(f".{ending}" for ending in ENDINGS.split())
PLAIN_NAMES = ("readme", "license", "changes")


@dataclass(frozen=True)
class Listed:
    """Hold a scan to predict, readable or not.

    Attributes
    ----------
    name : str
        The user's name of it: the file name, its path below the folder, or the path in the table.
    file : Path
        A file, or a folder with one DICOM series.
    known : dict
        `case`, `patient`, `site` and `label` of the table, each only if the column exists.
    columns : dict
        Every column of its row of the table; empty without a table.
    where : str
        The table and the row, "list.csv, row 3"; empty without a table.
    mask : Path or None
        The mask of the scan, if it is known.
    """

    name: str
    file: Path
    known: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    where: str = field(default="", repr=False, compare=False)
    mask: Path | None = field(default=None, repr=False, compare=False)


def list_scans(path: Path, kind: Kind) -> list[Listed]:
    """List the scans at a path.

    Parameters
    ----------
    path : Path
        A file of any kind (the reader refuses unreadable ones later); a folder with a DICOM series; a folder of scans,
        searched recursively and without documents (see `documents_in`); a folder with a cohort.csv, or any table
        (.csv) with a column `image`.
    kind : {"volume", "image"}
        What the model takes; for a model of images, every DICOM file is a separate scan.

    Raises
    ------
    BadTable
        If a table has no column `image` or no rows, a folder has no file, or the path cannot be read.
    """
    try:
        return _listed(path, kind)
    except OSError as error:
        raise BadTable(access_error(Path(error.filename or path), error)) from error


def _listed(path: Path, kind: Kind) -> list[Listed]:
    if path.suffix.lower() == ".csv":
        return read_list(path)
    if not path.is_dir():
        return [Listed(in_utf8(path.name), path)]
    next(path.iterdir(), None)  # raises where the folder cannot be listed
    if (path / TABLE).is_file():
        return read_list(path / TABLE)
    found = [Listed(_name(scan, path), scan) for scan in _scans_in(path, kind)]
    if not found:
        documents = documents_in(path)
        what = f"holds no image, only other files such as {documents[0]}" if documents else "is empty"
        raise BadTable(f"{path} {what}; give a scan, a folder of scans, or a table with a column image")
    return found


def documents_in(folder: Path) -> list[str]:
    """Name the files of a folder that are documents, such as a readme or a table; they are not listed as scans."""
    if not folder.is_dir() or (folder / TABLE).is_file():
        return []
    found = sorted(entry for entry in folder.rglob("*") if _is_document(entry))
    return [in_utf8(entry.relative_to(folder).as_posix()) for entry in found]


def read_list(file: Path) -> list[Listed]:
    """Read a table of scans, whose paths are relative to the table; raise BadTable if it is unusable."""
    table = read_text_table(file)
    column = next((name for name in IMAGE if name in table), None)
    if column is None or table.empty:
        why = "has no rows" if column else f"lacks a column {' or '.join(IMAGE)}"
        raise BadTable(f"{file} {why}; it needs one row per scan, with its path relative to the table")
    known = {ours: next((name for name in theirs if name in table), None) for ours, theirs in KNOWN.items()}
    known |= {"label": "label" if "label" in table else None}
    return [
        Listed(
            row[column] or f"row {number}, which names no image",
            image_in(file.parent, row[column]),
            {ours: row[name] for ours, name in known.items() if name},
            columns=dict(row),
            where=f"{file}, row {number}",
            mask=image_in(file.parent, row[MASK]) if row.get(MASK) else None,
        )
        for number, row in enumerate(table.to_dict("records"), 1)
    ]


def _scans_in(folder: Path, kind: Kind) -> Iterator[Path]:
    """Yield the scans of a folder: a DICOM series is one scan, and so is every other file, readable or not."""
    entries = [entry for entry in sorted(folder.iterdir()) if not _is_noise(entry)]
    locked = {entry for entry in entries if _is_locked(entry)}
    series = [entry for entry in entries if entry not in locked and counts_as_dicom(entry)]
    if series and kind == "volume":
        yield folder
    beside = set[Path]().union(*(_companions(entry) for entry in entries if entry not in locked))
    for entry in entries:
        if _is_document(entry):
            continue
        if entry in locked:
            yield entry
        elif entry.is_dir():
            yield from _scans_in(entry, kind)
        elif entry not in beside and not (kind == "volume" and entry in series):
            yield entry


def _companions(file: Path) -> set[Path]:
    """List the files with the voxels of this header; of a pair .hdr and .img, the header counts as the scan."""
    if file.is_dir() or file.suffix.lower() == ".img" or not is_readable(file) or is_dicom(file):
        return set()
    try:
        return {file.parent / name for name in companions_of(file)}
    except ValueError:  # the reader reports the missing file
        return set()


def _is_locked(entry: Path) -> bool:
    """Tell whether this user may not read a file or list a folder; it is then listed, and the reader says so."""
    try:
        if entry.is_dir():
            next(entry.iterdir(), None)
        else:
            entry.open("rb").close()
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def _is_document(entry: Path) -> bool:
    known = entry.name.lower().endswith(DOCUMENTS) or entry.name.lower() in PLAIN_NAMES
    return known and not entry.name.startswith(".") and not entry.is_dir()


def _is_noise(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name == "__MACOSX"


def _name(scan: Path, folder: Path) -> str:
    return in_utf8(folder.name if scan == folder else scan.relative_to(folder).as_posix())
