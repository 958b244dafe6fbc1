"""Importers: from the ways in which images lie around to the one cohort table."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.imaging.cohort_table import write_cohort_table
from pipeline.imaging.volumes import READABLE

SPLIT_NAMES = {
    "": "",
    "train": "development",
    "training": "development",
    "val": "development",
    "valid": "development",
    "validation": "development",
    "dev": "development",
    "development": "development",
    "test": "test",
    "testing": "test",
    "calibration": "calibration",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
}


class BadSource(ValueError):
    """A source that cannot be imported; the message names the file or the column and the cure."""


@dataclass
class Import:
    """What was found in a source: rows of the cohort table with the file of each, and what was left out and why."""

    rows: list[dict[str, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def take(self, file: Path, row: dict[str, str]) -> None:
        """Add an image, or leave it out with the reason."""
        if not file.name.lower().endswith(READABLE):
            self.left_out.append((row["case_id"], f"the ending is none of {', '.join(READABLE)}"))
        elif not file.is_file():
            self.left_out.append((row["case_id"], "the file is not there"))
        else:
            self.rows.append(row)
            self.files.append(file)


def find_in_csv(table: Path, columns: Mapping[str, str | None], rename: Mapping[str, str]) -> Import:
    """Read a table with one image per row.

    Parameters
    ----------
    table : Path
        A csv file; image paths in it are relative to its folder.
    columns : mapping
        From "image", "label", "patient", "site", "split" to the name of the column, or None where there is none.
    rename : mapping
        Labels to be renamed.

    Raises
    ------
    BadSource
        If the file or a column is missing, a split is unknown, or an image stands twice.
    """
    if not table.is_file():
        raise BadSource(f"{table} is not there")
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    for option, column in columns.items():
        if column is not None and column not in rows:
            raise BadSource(
                f"{table} has no column '{column}'; name it with --{option} (it has {', '.join(rows.columns)})"
            )
    found = Import()
    for row in rows.to_dict("records"):
        image = row[str(columns["image"])]
        split = row[columns["split"]] if columns["split"] else ""
        if split.lower() not in SPLIT_NAMES:
            raise BadSource(
                f"{table}: the split '{split}' is unknown; it is one of {', '.join(filter(None, SPLIT_NAMES))}"
            )
        label = row[str(columns["label"])]
        found.take(
            table.parent / image,
            {
                "case_id": image,
                "patient_id": row[columns["patient"]] if columns["patient"] else "",
                "image": image,
                "label": rename.get(label, label),
                "site": row[columns["site"]] if columns["site"] else "",
                "split": SPLIT_NAMES[split.lower()],
            },
        )
    _refuse_twice(found, str(table))
    return found


def find_in_class_folders(folder: Path, patient_pattern: str | None, rename: Mapping[str, str]) -> Import:
    """Read a folder that holds one folder per class.

    Parameters
    ----------
    folder : Path
        `folder/CLASS/…/image`; images may lie deeper.
    patient_pattern : str or None
        Regular expression; its first group, found in the path below `folder`, is the patient.
    rename : mapping
        Labels to be renamed.

    Raises
    ------
    BadSource
        If there are fewer than two class folders, or the pattern does not match a file.
    """
    classes = sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    if len(classes) < 2:
        raise BadSource(f"{folder} holds {len(classes)} class folders; it needs at least two")
    pattern = _compiled(patient_pattern)
    found = Import()
    for file in sorted(file for child in classes for file in child.rglob("*") if file.is_file()):
        name = str(file.relative_to(folder))
        label = file.relative_to(folder).parts[0]
        patient = _patient_in(name, pattern) if name.lower().endswith(READABLE) else ""
        row = {"case_id": name, "patient_id": patient, "image": name, "label": rename.get(label, label)}
        found.take(file, row | {"site": "", "split": ""})
    return found


def write_import(found: Import, into: Path, link: bool) -> None:
    """Copy (or link) the images below `into/images` and write `into/cohort.csv`.

    Raises
    ------
    BadSource
        If nothing was taken, `into` holds a cohort already, or an image lies outside its source's folder.
    """
    if not found.rows:
        raise BadSource("no image was taken; see what was left out above")
    if (into / "cohort.csv").exists():
        raise BadSource(f"{into} holds a cohort already; name another folder, or remove it first")
    for row, file in zip(found.rows, found.files, strict=True):
        relative = Path(os.path.normpath(row["image"]))
        if relative.is_absolute() or relative.parts[0] == "..":
            raise BadSource(f"{row['image']} lies outside its source's folder; move the images below it")
        target = into / "images" / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            target.symlink_to(file.resolve())
        else:
            shutil.copyfile(file, target)
        row["image"] = str(Path("images") / relative)
    write_cohort_table(pd.DataFrame(found.rows), into)


def describe(found: Import) -> str:
    """Say what was taken, by split and class, and what was left out and why."""
    rows = pd.DataFrame(found.rows, columns=["case_id", "patient_id", "image", "label", "site", "split"])
    patients = rows["patient_id"].where(rows["patient_id"] != "", rows["case_id"]).nunique()
    lines = [f"taken: {len(rows)} images of {patients} patients"]
    for (split, label), group in rows.groupby(["split", "label"]):
        lines.append(f"  {split or 'no split'}, {label or 'no label'}: {len(group)}")
    lines.append(f"left out: {len(found.left_out)}")
    lines += [f"  {name}: {reason}" for name, reason in found.left_out]
    return "\n".join(lines)


def parse_renames(pairs: Sequence[str]) -> dict[str, str]:
    """Turn `["0=healthy"]` into `{"0": "healthy"}`."""
    bad = [pair for pair in pairs if "=" not in pair]
    if bad:
        raise BadSource(f"--rename takes OLD=NEW, not '{bad[0]}'")
    return dict(pair.split("=", 1) for pair in pairs)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise BadSource(f"--patient-pattern is not a regular expression: {error}") from error
    if compiled.groups < 1:
        raise BadSource("--patient-pattern needs a group in brackets, which is the patient")
    return compiled


def _patient_in(name: str, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return ""
    match = pattern.search(name)
    if match is None:
        raise BadSource(f"--patient-pattern does not match {name}")
    return match.group(1)


def _refuse_twice(found: Import, source: str) -> None:
    names = pd.Series([row["case_id"] for row in found.rows])
    if names.duplicated().any():
        raise BadSource(f"{source}: the image {names[names.duplicated()].iloc[0]} stands twice")
