"""Import a tree of DICOM files in any order, one case per series; copies get de-identified headers."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.imaging.labels import renamed
from pipeline.imaging.reading.dicom import read_fields
from pipeline.stages.cohort.importers.dicom_headers import PIXELS, Rename, deidentified
from pipeline.stages.cohort.importers.dicom_segmentations import attach_segmentations
from pipeline.stages.cohort.importers.dicom_series import Series, gather
from pipeline.stages.cohort.importers.found import (
    BadCase,
    BadSource,
    Case,
    Import,
    Watch,
    Write,
    read_rows,
    row_of,
    unwatched,
)
from pipeline.stages.cohort.importers.places import Places

Key = Literal["patient", "study", "series", "accession"]
Site = Literal["institution", "station", "scanner", "none"]
Name = Callable[[str, str], str]

KEY_COLUMNS = {
    "patient": ("patient", "patient_id", "PatientID"),
    "study": ("study", "study_uid", "StudyInstanceUID"),
    "series": ("series", "series_uid", "SeriesInstanceUID"),
    "accession": ("accession", "accession_number", "AccessionNumber"),
}
COLUMNS = ("study", "modality", "sex", "age", "manufacturer", "model")
SITE_DIGITS = 6


@dataclass(frozen=True)
class Choices:
    """Define the conversion of series to table rows.

    Attributes
    ----------
    site : {"institution", "station", "scanner", "none"}
        Header attribute for the site; if it is empty, manufacturer and model.
    labels : mapping or None
        Class of each key; None imports all series as unlabelled.
    key : {"patient", "study", "series", "accession"}
        Level of the labels.
    rename : mapping
        Names of sites, to use instead of pseudonyms.
    link : bool
        Link to the original files instead of writing de-identified copies.
    """

    site: Site = "institution"
    labels: Mapping[str, str] | None = None
    key: Key = "patient"
    rename: Mapping[str, str] = field(default_factory=dict)
    link: bool = False


def find_in_dicom_tree(
    folder: Path, choices: Choices, name: Name, watch: Watch = unwatched, *, root: Path | None = None
) -> Import:
    """Read every header below `folder` and make one case of each series with pixels; segmentations become masks.

    Parameters
    ----------
    folder : Path
        Folder with DICOM files of any name at any depth.
    choices : Choices
        Conversion of series to table rows.
    name : callable
        ``name(kind, original)`` returns the pseudonym of a "site", "patient" or "series", as `kind-0123456789ab`.
    watch : callable
        Progress display.
    root : Path, optional
        Folder that holds all files, see `Places`.

    Raises
    ------
    BadSource
        If the folder does not exist, or two sites share a pseudonym.
    """
    if not folder.is_dir():
        raise BadSource(f"{folder} is no folder; name the one that holds the DICOM files")
    found = Import()
    every, segmentations = gather(Places(folder, root), choices.link, found, watch)
    gathered = _without_captures(every, found, folder)
    for uid, number, series in gathered:
        facts, more_than_one = series.facts, f"-{number}" if number else ""
        label = (choices.labels or {}).get(facts[choices.key], "")
        image = Path(*(name(kind, facts[kind]).rsplit("-", 1)[-1] for kind in ("patient", "series")))
        image = image.with_name(image.name + more_than_one)
        more = {column: facts[column] for column in COLUMNS}
        site = _site(facts, choices, name, found)
        split = "" if label else "unlabelled"
        row = row_of(uid + more_than_one, str(image), label, facts["patient"], site=site, split=split, **more)
        found.cases.append(Case(row, _parts(series, image, None if choices.link else partial(name, "patient"))))
    scans = [series for *_, series in gathered]
    attach_segmentations(found, scans, list(segmentations.values()), folder, link=choices.link)
    found.notes += _notes(gathered, choices)
    keys = {series.facts[choices.key] for *_, series in gathered}
    unused = sorted(set(choices.labels or {}) - keys)
    found.left_out += [(key, f"it has a label, but no series has it as its {choices.key}") for key in unused]
    return found


def read_labels(table: Path, key: Key, column: str, rename: Mapping[str, str]) -> dict[str, str]:
    """Read a table of labels with one row per patient, study, series or accession number.

    Raises
    ------
    BadSource
        If a column is missing, or two rows give different labels for one key.
    """
    rows = read_rows(table)
    keys = [name for name in KEY_COLUMNS[key] if name in rows]
    if not keys:
        names = " or ".join(KEY_COLUMNS[key])
        raise BadSource(f"{table} has no column {names} for --key {key} (it has {', '.join(rows.columns)})")
    if column not in rows:
        raise BadSource(f"{table} has no column '{column}'; name it with --label (it has {', '.join(rows.columns)})")
    labels: dict[str, str] = {}
    for one, label in zip(rows[keys[0]].str.strip(), rows[column], strict=True):
        if labels.setdefault(one, renamed(label, rename)) != renamed(label, rename):
            raise BadSource(f"{table} gives {key} {one} two labels; correct it, or choose a finer --key")
    return labels


def _without_captures(
    gathered: Mapping[str, list[Series]], found: Import, folder: Path
) -> list[tuple[str, int, Series]]:
    """Leave out secondary captures of studies with other images; number the scans that share a series UID."""
    numbered: list[tuple[str, int, Series]] = []
    scanned = {
        one.facts["study"] for several in gathered.values() for one in several if one.identity["capture"] == "no"
    }
    for uid, several in sorted(gathered.items()):
        kept = [one for one in several if one.identity["capture"] == "no" or one.facts["study"] not in scanned]
        reason = "a secondary capture, such as a screenshot, beside the scans of its study"
        left_out = [file for one in several if one not in kept for file in one.files]
        found.left_out += [(str(file.relative_to(folder)), reason) for file in left_out]
        numbered += [(uid, number if len(kept) > 1 else 0, one) for number, one in enumerate(kept, 1)]
    return numbered


def _parts(series: Series, image: Path, rename: Rename | None) -> Mapping[Path, Path | Write]:
    """Map numbered targets to the files, or to writers of de-identified copies if `rename` is given."""
    targets = [image / f"{number:05d}.dcm" for number in range(1, len(series.files) + 1)]
    files = series.files
    if rename is None:
        return dict(zip(targets, files, strict=True))
    return {target: partial(_write_copy, file, rename) for target, file in zip(targets, files, strict=True)}


def _write_copy(source: Path, rename: Rename, target: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fields = read_fields(source, pixels=True)
            if not any(keyword in fields for keyword in PIXELS):
                raise BadCase(f"{source.name} holds no pixels")
            deidentified(fields, rename).save_as(target, enforce_file_format=True)
    except (BadCase, OSError):
        raise
    except Exception as error:
        raise BadCase(f"{source.name} cannot be copied without its header ({type(error).__name__})") from error


def _site(facts: Mapping[str, str], choices: Choices, name: Name, found: Import) -> str:
    original = "" if choices.site == "none" else facts[choices.site] or facts["scanner"]
    if not original:
        return ""
    if original in choices.rename:
        note = f"site {choices.rename[original]} is {original}"
        found.notes += [note] if note not in found.notes else []
        return choices.rename[original]
    short = name("site", original)[: len("site-") + SITE_DIGITS]
    if found.sites.setdefault(short, original) != original:
        raise BadSource(f"'{original}' and '{found.sites[short]}' share a pseudonym; name one with --rename")
    return short


def _notes(gathered: list[tuple[str, int, Series]], choices: Choices) -> list[str]:
    """List the facts about the import that the table does not show."""
    by_study = sum(series.facts["patient"] == series.facts["study"] for *_, series in gathered)
    marked = sum(series.is_marked for *_, series in gathered)
    without = sum(series.facts[choices.key] not in (choices.labels or {}) for *_, series in gathered)
    shared = len({uid for uid, number, _ in gathered if number})
    notes = {
        f"{by_study} series name no patient; each of their studies counts as one": by_study,
        f"{shared} series UIDs stand for several patients, studies or frames of reference; each is a case": shared,
        f"{marked} series are marked as having text burned into the pixels, maybe names": marked,
        f"{without} series have no label and stay unlabelled": without and choices.labels is not None,
        "links lead to the files as they are, with all names in their headers": choices.link,
        "headers are de-identified, pixels are not changed: faces and burned-in text stay": not choices.link,
    }
    return [note for note, holds in notes.items() if holds]
