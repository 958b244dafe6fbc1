"""Import a tree of DICOM files in any order, one case per series; copies get de-identified headers."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from pydicom import Dataset

from pipeline.imaging.labels import renamed
from pipeline.imaging.reading.dicom import ENDINGS, is_dicom, read_fields
from pipeline.imaging.reading.dicom_identity import IDENTITY, content_of
from pipeline.stages.cohort.importers.dicom_facts import facts_of, is_capture, why_left_out
from pipeline.stages.cohort.importers.dicom_headers import PIXELS, Rename, deidentified, text_of, why_not_copied
from pipeline.stages.cohort.importers.found import (
    BadCase,
    BadSource,
    Case,
    Import,
    Watch,
    Write,
    is_noise,
    read_rows,
    row_of,
    unwatched,
    why_no_image,
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


@dataclass
class Series:
    """Hold the images of one series, patient and frame of reference.

    Attributes
    ----------
    identity : dict
        Values of `IDENTITY`; empty where no file states one.
    facts : dict
        Attributes of the first file, as `facts_of` returns them.
    is_marked : bool
        Whether the header declares burned-in text (BurnedInAnnotation).
    files : list of Path
        Each image once.
    contents : dict
        What `content_of` says of the images by SOPInstanceUID, where two files share one.
    """

    identity: dict[str, str]
    facts: dict[str, str]
    is_marked: bool
    files: list[Path] = field(default_factory=list)
    contents: dict[str, dict[str, Path]] = field(default_factory=dict)

    def agrees(self, identity: Mapping[str, str]) -> bool:
        """Tell whether an image belongs here: nothing that both state differs."""
        return all(not (one and self.identity[name]) or one == self.identity[name] for name, one in identity.items())

    def add(self, file: Path, fields: Dataset, identity: Mapping[str, str]) -> bool:
        """Add a file, or return False if it holds an image once more."""
        self.identity |= {name: one for name, one in identity.items() if one}
        sharing = self.contents.setdefault(text_of(fields, "SOPInstanceUID"), {})
        if "" in sharing:  # the only file so far, whose content was not needed
            first = sharing.pop("")
            sharing[content_of(first, read_fields(first))] = first
        if (content := content_of(file, fields) if sharing else "") in sharing:
            return False
        sharing[content] = file
        self.files.append(file)
        return True


def find_in_dicom_tree(
    folder: Path, choices: Choices, name: Name, watch: Watch = unwatched, *, root: Path | None = None
) -> Import:
    """Read every header below `folder` and make one case of each series with pixels.

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
    gathered = _without_captures(_gather(Places(folder, root), choices.link, found, watch), found, folder)
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


def _gather(places: Places, link: bool, found: Import, watch: Watch) -> dict[str, list[Series]]:
    """Group the DICOM files by series UID and identity, in order of path; record all other files as left out."""
    gathered: dict[str, list[Series]] = {}
    files = places.files()
    places.check(files)
    for file in watch(files, "read headers"):
        name = file.relative_to(places.folder)
        is_candidate = not is_noise(name) and (is_dicom(file) or file.suffix.lower() in ENDINGS)
        reason = _add(file, link, gathered) if is_candidate else why_no_image(file, "not a DICOM file")
        if reason:
            found.left_out.append((str(name), reason))
    return gathered


def _add(file: Path, link: bool, gathered: dict[str, list[Series]]) -> str:
    """Add a file to its series, or return the reason to leave it out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of pydicom quote header values
            fields = read_fields(file)
            reason = why_left_out(fields) or ("" if link else why_not_copied(fields))
            if reason:
                return reason
            if link and not is_dicom(file):
                return "it has no preamble, and is not read without; leave out --link, so that its copy gets one"
            added = _series_of(fields, gathered).add(file, fields, _identity_of(fields))
    except Exception as error:  # pydicom raises any exception on a broken file
        return f"it cannot be read ({type(error).__name__})"
    return "" if added else "another file holds the same image"


def _identity_of(fields: Dataset) -> dict[str, str]:
    return {name: text_of(fields, name) for name in IDENTITY} | {"capture": "yes" if is_capture(fields) else "no"}


def _series_of(fields: Dataset, gathered: dict[str, list[Series]]) -> Series:
    """Find the series to which an image belongs, or begin one."""
    of_uid, identity = gathered.setdefault(text_of(fields, "SeriesInstanceUID"), []), _identity_of(fields)
    for series in of_uid:
        if series.agrees(identity):
            return series
    of_uid.append(Series(identity, facts_of(fields), text_of(fields, "BurnedInAnnotation") == "YES"))
    return of_uid[-1]


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
