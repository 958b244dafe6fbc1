"""The table in which a cohort arrives, `cohort.csv`, one row per image, and the table of what is wrong with it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from pipeline.imaging.reading.scan import Finding

TABLE = "cohort.csv"
REQUIRED = ("case_id", "image", "label")
OPTIONAL = ("patient_id", "site", "split")
SPLITS = ("development", "calibration", "test", "unlabelled", "")


class BadTable(ValueError):
    """A cohort.csv that cannot be used; the message names the column and the cure."""


def read_cohort_table(folder: Path, covariates: Sequence[str] = ()) -> pd.DataFrame:
    """Read `folder/cohort.csv` as text, with every known column present and `patient_id` filled.

    Parameters
    ----------
    folder : Path
    covariates : sequence of str
        Further columns that are wanted, as numbers (see `as_numbers`).

    Returns
    -------
    pandas.DataFrame
        One row per image, columns `case_id, patient_id, image, label, site, split`; nothing is missing,
        empty text stands for "not given". Without `patient_id` each image is its own patient.
        Then `covariate_<name>` for each covariate; further columns of the file are left out.

    Raises
    ------
    BadTable
        If the file or a required column is missing, a split is unknown, or a covariate cannot be a number.
    """
    file = folder / TABLE
    if not file.exists():
        raise BadTable(f"{file} is not there: write one, or make it with `python -m pipeline import`")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    missing = [column for column in (*REQUIRED, *covariates) if column not in table]
    if missing:
        raise BadTable(f"{file} lacks the column {', '.join(missing)}; it needs {', '.join((*REQUIRED, *covariates))}")
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
    return table[["case_id", "patient_id", "image", "label", "site", "split", *map("covariate_{}".format, covariates)]]


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
        Columns `case, patient, image, label, site, split`.
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
