"""Read and check `cohort.csv`, the table of a cohort with one row per image; write the table of its findings."""

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
LONGEST = 40  # letters of the name of a group; longer values count as free text
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
    """Signal that a table cannot be used; the message names the column and the cure."""


def read_cohort_table(folder: Path, covariates: Sequence[str] = (), columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read `folder/cohort.csv` as text, with every known column present and `patient_id` filled.

    Parameters
    ----------
    folder : Path
    covariates : sequence of str
        Further columns to read as numbers (see `as_numbers`).
    columns : sequence of str
        Further columns to read as text, which define subgroups (see `as_groups`).

    Returns
    -------
    pandas.DataFrame
        One row per image with the columns `case_id, patient_id, image, label, site, split`; an empty text means "not
        given". Without `patient_id` each image counts as a separate patient. Then `covariate_<name>` for each covariate
        and `column_<name>` for each column; other columns of the file are dropped.

    Raises
    ------
    BadTable
        If the file or a required column is missing, a split is unknown, a covariate is not numeric, or a column might
        identify a patient.
    """
    file = folder / TABLE
    if not file.exists():
        raise BadTable(f"{file} does not exist; write it, or create it with `medadapt import`")
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
        raise BadTable(f"{file}: split '{unknown[0]}' is unknown; write {', '.join(SPLITS[:-1])} or leave it empty")
    table["patient_id"] = table["patient_id"].where(table["patient_id"] != "", table["case_id"])
    for column in covariates:
        table[f"covariate_{column}"] = as_numbers(table[column], f"{file}: covariate '{column}'")
    for column in columns:
        table[f"column_{column}"] = as_groups(table[column], table["patient_id"], f"{file}: column '{column}'")
    further = [*map("covariate_{}".format, covariates), *map("column_{}".format, columns)]
    return table[["case_id", "patient_id", "image", "label", "site", "split", *further]]


def as_numbers(column: "pd.Series[str]", where: str) -> "pd.Series[float]":
    """Convert a column of text to numbers; two different words become 0 and 1 in alphabetical order.

    Raises
    ------
    BadTable
        If a value is missing, there are more than two words (dates, free text), or integers of five and more digits
        rarely repeat (identifiers). The message begins with `where` and contains no value.
    """
    if (column.str.strip() == "").any():
        raise BadTable(f"{where} is missing in {int((column.str.strip() == '').sum())} rows; fill them or leave it out")
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().all():
        if (numbers.abs() >= 1e4).all() and (numbers % 1 == 0).all() and numbers.nunique() > len(numbers) / 2:
            raise BadTable(f"{where} looks like an identifier instead of a measurement; leave it out")
        return numbers.astype(float)
    if column.nunique() != 2:
        raise BadTable(f"{where} holds {column.nunique()} different texts; use numbers or two different words")
    return (column == max(column)).astype(float)


def as_groups(column: "pd.Series[str]", patients: "pd.Series[str]", where: str) -> "pd.Series[str]":
    """Check that a column defines groups of patients without identifying single patients.

    Numbers may take any values, since they are binned later; words must be few. Missing values stay empty.

    Raises
    ------
    BadTable
        If the column is empty, has another purpose, or holds dates, identifiers, free text or words that few patients
        share. The message begins with `where` and contains no value.
    """
    if column.name in (*REQUIRED, *OPTIONAL):
        raise BadTable(f"{where} cannot define subgroups (sites are always compared); {LEAVE_OUT}")
    text = column.str.strip()
    given = text[text != ""]
    flaw = "is empty in every row" if given.empty else flaw_of(given, patients[given.index].nunique())
    if flaw:
        raise BadTable(f"{where} {flaw}; {LEAVE_OUT}")
    return text


def defines_groups(column: "pd.Series[str]", patients: "pd.Series[str]") -> bool:
    """Tell whether a column passes the check of `as_groups`."""
    try:
        as_groups(column, patients, "")
    except BadTable:
        return False
    return True


def flaw_of(given: "pd.Series[str]", patients: int) -> str:
    """Explain, without a value, how a column identifies patients; return "" if it does not."""
    numbers, kinds = pd.to_numeric(given, errors="coerce"), given.nunique()
    if any(DATE.search(value) for value in given.unique()):
        return "looks like dates, which identify patients: use an age in years instead"
    if np.isfinite(numbers).all():
        return "looks like an identifier instead of a measurement" if is_numbering(numbers, patients) else ""
    if given.str.len().max() > LONGEST:
        return f"holds free text: use words of at most {LONGEST} letters instead"
    if kinds * 3 > patients:
        return (
            f"holds {kinds} different texts for {patients} patients, which nearly identify them: use a few words "
            "that many patients share, or numbers only, and leave missing values empty"
        )
    return ""


def is_numbering(numbers: "pd.Series[float]", patients: int) -> bool:
    """Tell whether integers number the patients: they rarely repeat, and are long or without gaps."""
    kinds = numbers.nunique()
    if (numbers % 1 != 0).any():
        return False
    if (numbers.abs() >= 1e4).all():
        return bool(kinds > patients / 2)
    long_or_dense = (numbers.abs() >= 1e3).all() or numbers.max() - numbers.min() < 2 * kinds
    # the ages of fewer than 20 patients may all differ
    return bool(patients >= 20 and kinds > 0.9 * patients and long_or_dense)


def columns_in(folder: Path) -> list[str]:
    """List the columns of `folder/cohort.csv`; none if there is no such file."""
    file = folder / TABLE
    return list(pd.read_csv(file, nrows=0)) if file.exists() else []


def has_patients(folder: Path) -> bool:
    """Tell whether the file names a patient for any image, so that intervals can resample patients."""
    table = pd.read_csv(folder / TABLE, dtype=str, keep_default_na=False)
    return "patient_id" in table and bool((table["patient_id"] != "").any())


def pseudonymised(table: pd.DataFrame, name: Callable[[str, str], str]) -> pd.DataFrame:
    """Replace case and patient ids by pseudonyms, and sort by case, so that the order reveals nothing.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `read_cohort_table`.
    name : callable
        ``name(kind, original)`` returns the pseudonym of a "case" or a "patient".

    Returns
    -------
    pandas.DataFrame
        Columns `case, patient, image, label, site, split`, then covariates and columns.
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
    """Tabulate findings, one per row: case, check, detail, action, parameter."""
    rows = [(name, *vars(one).values()) for name, found in zip(names, findings, strict=True) for one in found]
    return pd.DataFrame(rows, columns=["case", "check", "detail", "action", "parameter"])
