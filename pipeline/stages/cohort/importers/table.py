"""Import a csv table with one image per row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.imaging.labels import renamed
from pipeline.imaging.reading import dicom
from pipeline.imaging.reading.volumes import READABLE
from pipeline.imaging.tables.cohort_table import MASK, TIMES
from pipeline.stages.cohort.importers.columns import keep_columns
from pipeline.stages.cohort.importers.found import BadCase, BadSource, Import, parts_of, read_rows, row_of, split_of
from pipeline.stages.cohort.importers.places import Places

NOT_DICOM = tuple(ending for ending in READABLE if ending not in dicom.ENDINGS)


def find_in_csv(
    table: Path,
    columns: Mapping[str, str | None],
    rename: Mapping[str, str],
    root: Path | None = None,
    keep: Sequence[str] = (),
) -> Import:
    """Read a table with one image per row, and make one case of each row.

    Parameters
    ----------
    table : Path
        Csv file. Its image paths are relative to its folder, and name a file or a folder with one DICOM series.
    columns : mapping
        Name of the column for "image", "label", "patient", "site", "split" and "mask", or None if the table has none.
    rename : mapping
        New name of each label to rename.
    root : Path, optional
        Folder that holds all images, see `Places`.
    keep : sequence of str
        Further columns to keep, see `keep_columns`.

    Raises
    ------
    BadSource
        If the file or a column is missing, a split is unknown, two rows name one image, an image lies outside, or a
        column to keep could identify a patient.
    """
    rows = read_rows(table)
    if set(TIMES) <= set(rows) and columns["label"] not in rows:
        columns = {**columns, "label": None}  # times until an event stand in its place
    for option, column in columns.items():
        if column is not None and column not in rows:
            raise BadSource(
                f"{table} has no column '{column}'; name it with --{option} (it has {', '.join(rows.columns)})"
            )
    found, places, further = Import(), Places(table.parent, root), dict[str, dict[str, str]]()
    regions = Counter[str]()
    for cells in rows.to_dict("records"):
        given = {name: cells[column] if column else "" for name, column in columns.items()}
        image, label = given["image"], given["label"]
        if not image:
            found.left_out.append((f"a row of {table.name}", "it names no image"))
            continue
        split = split_of(given["split"], table)
        path, place = places.locate(image)
        regions[place] += bool(given.get(MASK))
        case = place if regions[place] < 2 else f"{place}#{regions[place]}"  # one more lesion of the same image
        row = row_of(case, place, renamed(label, rename), given["patient"], site=given["site"], split=split)
        further[case] = {name: value for name, value in cells.items() if name not in columns.values()}
        take_with_mask(found, places, (path, row), given[MASK] if columns.get(MASK) else None)
    _refuse_twice(found, table)
    keep_columns(found, further, keep)
    found.notes += names_stay(found)
    return found


def take_with_mask(found: Import, places: Places, image: tuple[Path, dict[str, str]], name: str | None) -> None:
    """Add an image, given as path and row, with its mask; it is left out if its mask cannot be taken.

    `name` is the path of the mask, "" of an image without one, or None where a source names no masks. A case that is
    not named as its image is one more region of an image that is there already.
    """
    path, row = image
    again = row["case_id"] != row["image"]
    if not name:
        places.take(found, path, row if name is None else row | {MASK: ""})
        return
    mask, place = places.locate(name)
    try:
        parts = parts_of(mask, Path(place))
    except BadCase as reason:
        found.left_out.append((row["case_id"], f"its mask: {reason}"))
        return
    places.check(source for source in parts.values() if isinstance(source, Path))
    before = len(found.cases)
    places.take(found, path, row | {MASK: place})
    taken = found.cases[before:]
    found.cases[before:] = [replace(case, parts={**({} if again else case.parts), **parts}) for case in taken]


def names_stay(found: Import) -> list[str]:
    """Return a note that DICOM headers are not de-identified, if the import has DICOM files."""
    sources = [source for case in found.cases for source in case.parts.values() if isinstance(source, Path)]
    if any(dicom.is_dicom(source) for source in sources if not source.name.lower().endswith(NOT_DICOM)):
        return [
            "DICOM files are taken as they are, with all names in their headers; `medadapt import dicom` removes them"
        ]
    return []


def _refuse_twice(found: Import, table: Path) -> None:
    seen: set[str] = set()
    for case in found.cases:
        if case.row["case_id"] in seen:
            raise BadSource(
                f"{table}: two rows name the image {case.row['case_id']}; keep one, or name a mask of its own in each"
            )
        seen.add(case.row["case_id"])
