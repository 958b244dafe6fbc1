"""Define the result of every importer (cases and their files), write it and describe it."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.imaging.reading.access import in_utf8
from pipeline.imaging.reading.companions import companions_of
from pipeline.imaging.reading.dicom import files_in
from pipeline.imaging.reading.volumes import READABLE, is_readable
from pipeline.imaging.tables.cohort_table import MASK, TABLE, write_cohort_table
from pipeline.imaging.tables.text_table import BadTable, read_text_table
from pipeline.params import CARD_FILE, COHORT_FILE
from pipeline.stages.cohort.proposal import write_proposal
from pipeline.stages.cohort.statements import template

NAMES_OF_SPLITS = {
    "": ("",),
    "development": (
        *("train", "training", "trn", "tr", "development", "dev", "devel", "learn", "learning"),
        *("val", "valid", "validate", "validating", "validation", "vali", "evaluation", "eval"),
    ),
    "test": ("test", "testing", "tst", "ts", "te", "holdout", "hold-out", "held-out", "external"),
    "calibration": ("calibration", "calibrate", "calib"),
    "unlabelled": ("unlabelled", "unlabeled", "unlabelled images", "unannotated"),
}
SPLIT_NAMES = {name: split for split, names in NAMES_OF_SPLITS.items() for name in names}
LISTED_SINGLY = 10
LISTED_LABELS = 30  # of a split, one a line; more are summarised
NOT_AN_IMAGE = "not an image"

Write = Callable[[Path], None]
Watch = Callable[[Iterable[Any], str], Iterable[Any]]


class BadSource(ValueError):
    """Report a source that cannot be imported; the message names the file or the option and the cure."""


class BadCase(ValueError):
    """Report an image that cannot be imported; the message is the reason."""


@dataclass(frozen=True)
class Case:
    """Hold one case of a cohort.

    Attributes
    ----------
    row : dict
        Columns of `cohort.csv`; `image` is the path of a file or folder below `images/`.
    parts : mapping
        Source of each file to write, by its path below `images/`: a file to copy or link, or a function. The function
        writes the file or raises `BadCase`.
    """

    row: dict[str, str]
    parts: Mapping[Path, Path | Write]


@dataclass
class Import:
    """Collect the cases of a source and the files left out.

    Attributes
    ----------
    cases : list of Case
        Imported cases.
    left_out : list of (name, reason)
        Names of files or entries without a case.
    notes : list of str
        Further messages for the user.
    sites : dict
        Original name of each site, by pseudonym.
    """

    cases: list[Case] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sites: dict[str, str] = field(default_factory=dict)

    @property
    def knows_patients(self) -> bool:
        """Whether any case names its patient."""
        return any(case.row["patient_id"] for case in self.cases)

    def take(self, path: Path, row: dict[str, str]) -> None:
        """Add the image at `path` (a file, or a folder with one DICOM series), or leave it out with the reason."""
        try:
            if in_utf8(row["image"]) != row["image"]:
                raise BadCase("its name is not UTF-8, which cohort.csv is; rename it")
            self.cases.append(Case(row, parts_of(path, Path(os.path.normpath(row["image"])))))
        except BadCase as reason:
            self.left_out.append((row["case_id"], str(reason)))
        except OSError as error:  # a name that is too long, a disk that fails
            self.left_out.append((row["case_id"], (error.strerror or type(error).__name__).lower()))


def row_of(
    case_id: str, image: str, label: str = "", patient: str = "", site: str = "", split: str = "", **more: str
) -> dict[str, str]:
    """Build a row of the cohort table."""
    known = {"case_id": case_id, "patient_id": patient, "image": image, "label": label, "site": site, "split": split}
    return known | more


def parts_of(path: Path, image: Path) -> Mapping[Path, Path | Write]:
    """Map the target path below `images/` of each file of an image to its source.

    Raises
    ------
    BadCase
        If the image is missing, incomplete or of an unsupported kind.
    """
    if path.is_dir():
        series = files_in(path)
        if not series:
            raise BadCase("the folder holds no DICOM file")
        return {image / file.name: file for file in series}
    if not path.exists():
        raise BadCase("the file is not there")
    if not is_readable(path):
        raise BadCase(f"the ending is none of {', '.join(READABLE)}, and it is no DICOM file")
    try:
        beside = companions_of(path)
    except ValueError as error:
        raise BadCase(str(error)) from error
    return {image: path} | {image.parent / name: path.parent / name for name in beside}


def why_no_image(file: Path, reason: str = NOT_AN_IMAGE) -> str:
    """Return the reason to leave out a path that is no image."""
    if file.is_symlink() and file.is_dir():
        return "a link to a folder; --root FOLDER follows links that stay below FOLDER"
    return reason


def is_noise(name: Path) -> bool:
    """Return whether a path belongs to the operating system: hidden files, or `__MACOSX` of archives from macOS."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def read_rows(table: Path, separator: str = ",") -> pd.DataFrame:
    """Read a table as text; no value becomes missing (NaN).

    Raises
    ------
    BadSource
        If the file cannot be read, see `read_text_table`.
    """
    try:
        return read_text_table(table, separator)
    except BadTable as error:
        raise BadSource(str(error)) from error


def split_of(name: str, table: Path) -> str:
    """Convert the name of a split in a source table to its name in the cohort table.

    Raises
    ------
    BadSource
        If the name is unknown.
    """
    if name.strip().lower() not in SPLIT_NAMES:
        known = ", ".join(filter(None, SPLIT_NAMES))
        raise BadSource(f"{table}: the split '{name}' is unknown; it is one of {known}")
    return SPLIT_NAMES[name.strip().lower()]


def unwatched(items: Iterable[Any], _: str) -> Iterable[Any]:
    """Return the items unchanged, without a progress display."""
    return items


def write_import(found: Import, into: Path, link: bool, watch: Watch = unwatched) -> list[tuple[str, str]]:
    """Copy or link the images below `into/images`, and write cohort.csv, a proposed cohort.yaml and an empty card.yaml.

    A card.yaml that `into` already holds stays as it is.

    Returns
    -------
    list of (name, reason)
        Cases with a failed write; the table does not contain them.

    Raises
    ------
    BadSource
        If there is no case to write, `into` already holds a cohort, or an image is outside its source's folder or a
        duplicate.
    """
    if not found.cases:
        raise BadSource("no image was taken; see what was left out above")
    for name in (TABLE, COHORT_FILE, "images"):
        if (into / name).exists():
            raise BadSource(f"{into / name} is there already; name another folder, or remove it first")
    _check_targets(found)
    rows: list[dict[str, str]] = []
    broken: list[tuple[str, str]] = []
    for case in watch(found.cases, "write"):
        try:
            _write_case(case, into / "images", link)
            named = {column: case.row[column] for column in ("image", MASK) if case.row.get(column)}
            placed = {column: str(Path("images", os.path.normpath(name))) for column, name in named.items()}
            rows.append(case.row | placed)
        except BadCase as reason:
            broken.append((case.row["case_id"], str(reason)))
    if not rows:
        raise BadSource(f"no image could be written; the first: {broken[0][0]}: {broken[0][1]}")
    table = pd.DataFrame(rows).fillna("")
    write_cohort_table(table, into)
    write_proposal(table, into)
    if not (into / CARD_FILE).exists():
        (into / CARD_FILE).write_text(template(), encoding="utf-8")
    return broken


def _check_targets(found: Import) -> None:
    seen: set[Path] = set()
    for case in found.cases:
        for target in case.parts:
            if target.is_absolute() or ".." in Path(os.path.normpath(target)).parts:
                raise BadSource(f"{case.row['image']} lies outside its source's folder; move it below")
            if target in seen:
                raise BadSource(f"the image {case.row['image']} is named twice; each image makes one case, so keep one")
            seen.add(target)


def _write_case(case: Case, images: Path, link: bool) -> None:
    """Write all files of a case, or none if one raises `BadCase`."""
    try:
        for relative, source in case.parts.items():
            target = images / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if callable(source):
                source(target)
            elif link:
                target.symlink_to(source.resolve())
            else:
                shutil.copyfile(source, target)
    except BadCase:
        for relative in case.parts:
            (images / relative).unlink(missing_ok=True)
        raise


def describe(found: Import) -> str:
    """Describe the cases by split and class, the names of sites, and the files left out with the reasons."""
    rows = [case.row for case in found.cases]
    patients = {row["patient_id"] or row["case_id"] for row in rows}
    whose = f"{len(patients)} patients" if found.knows_patients else "unknown patients"
    lines = [f"taken: {len(rows)} images of {whose}"]
    for split in sorted({row["split"] for row in rows}):
        labels = Counter(row["label"] for row in rows if row["split"] == split)
        lines += [f"  {split or 'no split'}, {line}" for line in label_lines(labels)]
    if found.sites:
        of_site = Counter(row["site"] for row in rows)
        lines.append("sites, by pseudonym (--rename NAME=OTHER gives another):")
        lines += [f"  {site}: {name} ({of_site[site]} images)" for site, name in sorted(found.sites.items())]
    lines += [f"note: {note}" for note in found.notes]
    lines.append(f"left out: {len(found.left_out)}")
    return "\n".join(lines + left_out_lines(found.left_out))


def label_lines(labels: Counter[str]) -> list[str]:
    """List labels with their counts, or, if they are more than `LISTED_LABELS`, one line about them."""
    if len(labels) <= LISTED_LABELS:
        return [f"{label or 'no label'}: {n}" for label, n in sorted(labels.items())]
    known = {label: n for label, n in labels.items() if label}
    unlabelled = [f"no label: {labels['']}"] if "" in labels else []
    try:
        numbers = [float(label) for label in known]
        told = f"{len(known)} different numbers from {min(numbers):g} to {max(numbers):g}: {sum(known.values())}"
    except ValueError:
        often = ", ".join(sorted(known, key=lambda label: (-known[label], label))[:LISTED_SINGLY])
        told = f"{len(known)} different labels, e.g. {often}: {sum(known.values())}"
    return [*unlabelled, told]


def left_out_lines(left_out: Sequence[tuple[str, str]]) -> list[str]:
    """List the files left out, one per line, or one line with examples if a reason has over `LISTED_SINGLY` files."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in left_out:
        by_reason.setdefault(reason, []).append(in_utf8(name))
    lines = []
    for reason, names in by_reason.items():
        if len(names) > LISTED_SINGLY:
            lines.append(f"  {reason}: {len(names)}, e.g. {', '.join(names[:3])}")
        else:
            lines += [f"  {name}: {reason}" for name in names]
    return lines
