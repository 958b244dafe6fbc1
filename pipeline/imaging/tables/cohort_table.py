"""The table in which a cohort arrives, `cohort.csv`, one row per image, and the table of what is wrong with it."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.imaging.reading.scan import Finding

TABLE = "cohort.csv"
REQUIRED = ("case_id", "image", "label")
OPTIONAL = ("patient_id", "site", "split")
SPLITS = ("development", "calibration", "test", "unlabelled", "")
LEAVE_OUT = "leave it out of calibrate.subgroups and calibrate.baseline"
LONGEST = 40  # letters of a word that names a group; more is free text
MONTH = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?)"
)
DATE = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}|(?<!\d)((19|20)\d\d[-/](0[1-9]|1[0-2])(?!\d)|\d{1,2}:\d\d"
    r"|(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
    rf"|\d{{1,2}}[ .-]*{MONTH}\b[ .,-]*\d{{2,4}})|\b{MONTH}\b[ .,-]*(19|20)\d\d",
    re.IGNORECASE,
)


class BadTable(ValueError):
    """A cohort.csv that cannot be used; the message names the column and the cure."""


def read_cohort_table(folder: Path, covariates: Sequence[str] = (), columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read `folder/cohort.csv` as text, with every known column present and `patient_id` filled.

    Parameters
    ----------
    folder : Path
    covariates : sequence of str
        Further columns that are wanted, as numbers (see `as_numbers`).
    columns : sequence of str
        Further columns by which metrics are told apart, as text (see `as_told_apart`).

    Returns
    -------
    pandas.DataFrame
        One row per image, columns `case_id, patient_id, image, label, site, split`; nothing is missing,
        empty text stands for "not given". Without `patient_id` each image is its own patient.
        Then `covariate_<name>` for each covariate and `column_<name>` for each column; further columns of the file
        are left out.

    Raises
    ------
    BadTable
        If the file or a required column is missing, a split is unknown, a covariate cannot be a number, or a column
        might tell who somebody is.
    """
    file = folder / TABLE
    if not file.exists():
        raise BadTable(f"{file} is not there: write one, or make it with `medadapt import`")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    needed = list(dict.fromkeys((*REQUIRED, *covariates, *columns)))
    missing = [column for column in needed if column not in table]
    if missing:
        raise BadTable(f"{file} lacks the column {', '.join(missing)}; it needs {', '.join(needed)}")
    if table.empty:
        raise BadTable(f"{file} has no rows")
    for column in OPTIONAL:
        if column not in table:
            table[column] = ""
    unknown = sorted(set(table["split"]) - set(SPLITS))
    if unknown:
        raise BadTable(f"{file}: split '{unknown[0]}' is unknown; it is one of {', '.join(SPLITS[:-1])} or empty")
    table["patient_id"] = table["patient_id"].where(table["patient_id"] != "", table["case_id"])
    for column in covariates:
        table[f"covariate_{column}"] = as_numbers(table[column], f"{file}: covariate '{column}'")
    for column in columns:
        table[f"column_{column}"] = as_told_apart(table[column], table["patient_id"], f"{file}: column '{column}'")
    further = [*map("covariate_{}".format, covariates), *map("column_{}".format, columns)]
    return table[["case_id", "patient_id", "image", "label", "site", "split", *further]]


def as_numbers(column: "pd.Series[str]", where: str) -> "pd.Series[float]":
    """Turn a column of text into numbers: numbers as they are, two words into 0 and 1 in alphabetical order.

    Raises
    ------
    BadTable
        If a value is missing, the words are more than two (dates, free text), or whole numbers of five digits and
        more are hardly ever the same (identifiers); `where` begins the message, and no value is repeated in it.
    """
    if (column.str.strip() == "").any():
        raise BadTable(f"{where} is missing in {int((column.str.strip() == '').sum())} rows; fill them or leave it out")
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().all():
        if (numbers.abs() >= 1e4).all() and (numbers % 1 == 0).all() and numbers.nunique() > len(numbers) / 2:
            raise BadTable(f"{where} looks like an identifier, not like a measurement; leave it out")
        return numbers.astype(float)
    if column.nunique() != 2:
        raise BadTable(f"{where} holds text of {column.nunique()} kinds; give numbers, or one of two words")
    return (column == max(column)).astype(float)


def as_told_apart(column: "pd.Series[str]", patients: "pd.Series[str]", where: str) -> "pd.Series[str]":
    """Let a column through by which patients can be told apart in groups, but not one by one.

    Numbers may be of any variety, as they are banded later; words must be few. A missing value is left empty.

    Raises
    ------
    BadTable
        If it is empty, a column of another purpose, or holds dates, identifiers, free text or words that few patients
        share. `where` begins the message, and no value is repeated in it.
    """
    if column.name in (*REQUIRED, *OPTIONAL):
        raise BadTable(f"{where} is none to tell groups apart by (the site always is one); {LEAVE_OUT}")
    text = column.str.strip()
    given = text[text != ""]
    flaw = "is empty in every row" if given.empty else flaw_of(given, patients[given.index].nunique())
    if flaw:
        raise BadTable(f"{where} {flaw}; {LEAVE_OUT}")
    return text


def flaw_of(given: "pd.Series[str]", patients: int) -> str:
    """Say, without repeating a value, why a column tells who somebody is; empty if it does not."""
    numbers, kinds = pd.to_numeric(given, errors="coerce"), given.nunique()
    if any(DATE.search(value) for value in given.unique()):
        return "looks like dates, which tell who somebody is: give an age in years instead"
    if np.isfinite(numbers).all():
        return "looks like an identifier, not like a measurement" if is_numbering(numbers, patients) else ""
    if given.str.len().max() > LONGEST:
        return f"holds free text: give words of at most {LONGEST} letters instead"
    if kinds * 3 > patients:
        return (
            f"holds text of {kinds} kinds for {patients} patients, which is nearly a name: give a few words that many "
            "share, or numbers alone, with nothing where a value is missing"
        )
    return ""


def is_numbering(numbers: "pd.Series[float]", patients: int) -> bool:
    """Tell whole numbers that number people: long ones, or hardly ever the same and long or without gaps."""
    kinds = numbers.nunique()
    if (numbers % 1 != 0).any():
        return False
    if (numbers.abs() >= 1e4).all():
        return bool(kinds > patients / 2)
    long_or_dense = (numbers.abs() >= 1e3).all() or numbers.max() - numbers.min() < 2 * kinds
    return bool(patients >= 20 and kinds > 0.9 * patients and long_or_dense)  # fewer may well all differ in age


def columns_in(folder: Path) -> list[str]:
    """List the columns of `folder/cohort.csv`; none if there is no such file."""
    file = folder / TABLE
    return list(pd.read_csv(file, nrows=0)) if file.exists() else []


def has_patients(folder: Path) -> bool:
    """Tell whether the file names a patient for any image, so that intervals can be per patient."""
    table = pd.read_csv(folder / TABLE, dtype=str, keep_default_na=False)
    return "patient_id" in table and bool((table["patient_id"] != "").any())


def pseudonymised(table: pd.DataFrame, name: Callable[[str, str], str]) -> pd.DataFrame:
    """Replace case and patient ids by pseudonyms and sort by them, so that nothing follows the original names.

    Parameters
    ----------
    table : pandas.DataFrame
        As `read_cohort_table` returns it.
    name : callable
        ``name(kind, original)`` gives the pseudonym of a "case" or a "patient".

    Returns
    -------
    pandas.DataFrame
        Columns `case, patient, image, label, site, split`, and the further ones.
    """
    renamed = table.rename(columns={"case_id": "case", "patient_id": "patient"})
    renamed["case"] = [name("case", original) for original in renamed["case"]]
    renamed["patient"] = [name("patient", original) for original in renamed["patient"]]
    return renamed.sort_values("case", ignore_index=True)


def write_cohort_table(rows: pd.DataFrame, folder: Path) -> None:
    """Write `folder/cohort.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / TABLE, index=False)


def findings_table(names: Sequence[str], findings: Sequence[Sequence[Finding]]) -> pd.DataFrame:
    """Write one row per finding: case, check, detail, action, parameter."""
    rows = [(name, *vars(one).values()) for name, found in zip(names, findings, strict=True) for one in found]
    return pd.DataFrame(rows, columns=["case", "check", "detail", "action", "parameter"])
