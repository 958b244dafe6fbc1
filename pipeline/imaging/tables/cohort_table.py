"""Read and check `cohort.csv`, the table of a cohort with one row per image; write the table of its findings."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.imaging.reading.scan import Finding
from pipeline.imaging.tables.text_table import BadTable, read_text_table

TABLE = "cohort.csv"
REQUIRED = ("case_id", "image", "label")
OPTIONAL = ("patient_id", "site", "split")
TIMES = ("time", "event")  # in the place of the label, for times until an event
MASK = "mask"  # the path of the mask of the image
SPLITS = ("development", "calibration", "test", "unlabelled", "")
NO_IMAGE = "the row names no image"
LEAVE_OUT = "leave it out of calibrate.subgroups, calibrate.baseline and cohort.inputs"
EXAMPLES = 3  # named where many are meant
LONGEST = 40  # letters of the name of a group; longer values count as free text
LONGEST_SITE = 80  # letters of the name of a hospital or a class
FEW_SITES = 3  # so many sites may have one patient each
AGE = re.compile(r"(patient_?)?age(_?(years?|y))?", re.IGNORECASE)
OLDEST = 120  # years
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
        given". A table with the columns `time` and `event` keeps them, and may lack `label`. Without `patient_id` each
        image counts as a separate patient. If any row names a mask, a column `mask` follows. Then `covariate_<name>`
        for each covariate and `column_<name>` for each column; other columns of the file are dropped.

    Raises
    ------
    BadTable
        If the file or a required column is missing, a split is unknown, a covariate is not numeric, or a column might
        identify a patient.
    """
    file = folder / TABLE
    if not file.exists():
        raise BadTable(f"{file} does not exist; write it, or create it with `medadapt import`")
    return checked_rows(read_text_table(file), file, covariates, columns)


def checked_rows(
    table: pd.DataFrame, file: Path, covariates: Sequence[str] = (), columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Check and complete the rows of a cohort table, as `read_cohort_table` does with those of `file`."""
    times = [name for name in TIMES if set(TIMES) <= set(table)]
    table = table.assign(label="") if times and "label" not in table else table
    needed = list(dict.fromkeys((*REQUIRED, *covariates, *columns)))
    missing = [column for column in needed if column not in table]
    if missing:
        raise BadTable(f"{file} lacks the column {', '.join(missing)}; it needs {', '.join(needed)}")
    if table.empty:
        raise BadTable(f"{file} has no rows")
    table = table.assign(**{column: "" for column in OPTIONAL if column not in table})
    unknown = Counter(table["split"][~table["split"].isin(SPLITS)])
    faults = [f"{file}: split {counted(unknown)} is unknown; write {', '.join(SPLITS[:-1])} or leave it empty"]
    faults = faults if unknown else []
    table["patient_id"] = table["patient_id"].where(table["patient_id"] != "", table["case_id"])
    if flaw := flaw_of_sites(table["site"], table["patient_id"]):
        faults.append(f"{file}: column 'site' {flaw}; write the name or a code of the hospital")
    for column in covariates:
        with _collected(faults):
            table[f"covariate_{column}"] = as_numbers(table[column], f"{file}: covariate '{column}'")
    for column in columns:
        with _collected(faults):
            table[f"column_{column}"] = as_groups(table[column], table["patient_id"], f"{file}: column '{column}'")
    if faults:
        raise BadTable("\n- ".join(faults))
    masks = [MASK] if MASK in table and (table[MASK] != "").any() else []
    further = [*times, *masks, *map("covariate_{}".format, covariates), *map("column_{}".format, columns)]
    return table[["case_id", "patient_id", "image", "label", "site", "split", *further]]


def counted(values: Mapping[str, int]) -> str:
    """List values with their counts, the most frequent first.

    >>> counted({"a": 1, "b": 2, "c": 1, "d": 1})
    "'b' (2), 'a' (1), 'c' (1) and 1 more"
    """
    ranked = sorted(values, key=lambda value: -values[value])
    more = f" and {len(ranked) - EXAMPLES} more" if len(ranked) > EXAMPLES else ""
    return ", ".join(f"'{value}' ({values[value]})" for value in ranked[:EXAMPLES]) + more


@contextmanager
def _collected(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except BadTable as fault:
        faults.append(str(fault))


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
    if flaw := flaw_of_groups(column, patients):
        raise BadTable(f"{where} {flaw}; {LEAVE_OUT}")
    return column.str.strip()


def flaw_of_groups(column: "pd.Series[str]", patients: "pd.Series[str]") -> str:
    """Explain, without a value, why a column cannot define groups of patients; return "" if it can."""
    if column.name in (*REQUIRED, *OPTIONAL, MASK):
        return "cannot define subgroups (sites are always compared)"
    text = column.str.strip()
    given = text[text != ""]
    if given.empty:
        return "is empty in every row"
    is_age = bool(AGE.fullmatch(str(column.name)))
    return _identifying(given, patients[given.index].nunique(), is_age)


def flaw_of_sites(sites: "pd.Series[str]", patients: "pd.Series[str]") -> str:
    """Explain, without a value, why sites could identify patients; return "" if they cannot."""
    given = sites[sites != ""]
    kinds, people = given.nunique(), patients[given.index].nunique()
    if any(map(is_about_a_person, given.unique())):
        return f"holds dates, or free text of more than {LONGEST_SITE} letters, which may identify patients"
    if kinds > FEW_SITES and kinds * 2 > people:
        return f"holds {kinds} different texts for {people} patients, which nearly identify them"
    return ""


def is_about_a_person(text: str) -> bool:
    """Tell whether the name of a class or site is rather a date or free text."""
    return len(text) > LONGEST_SITE or bool(DATE.search(text))


def _identifying(given: "pd.Series[str]", patients: int, is_age: bool) -> str:
    """Explain how values identify patients; return "" if they do not."""
    numbers, kinds = pd.to_numeric(given, errors="coerce"), given.nunique()
    if any(DATE.search(value) for value in given.unique()):
        return "looks like dates, which identify patients: use an age in years instead"
    if np.isfinite(numbers).all():
        plausible = is_age and numbers.between(0, OLDEST).all()  # the ages of a few patients may be without gaps
        is_identifier = not plausible and is_numbering(numbers, patients)
        return "looks like an identifier instead of a measurement" if is_identifier else ""
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
    return list(read_text_table(file)) if file.exists() else []


def has_patients(folder: Path) -> bool:
    """Tell whether the file names a patient for any image, so that intervals can resample patients."""
    table = read_text_table(folder / TABLE)
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


def image_in(folder: Path, image: str) -> Path:
    """Find the image of a row; a row without a path names no file, rather than the folder of its table."""
    return folder / (image if os.path.normpath(image or ".") != "." else NO_IMAGE)


def write_cohort_table(rows: pd.DataFrame, folder: Path) -> None:
    """Write `folder/cohort.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / TABLE, index=False)


def findings_table(names: Sequence[str], findings: Sequence[Sequence[Finding]]) -> pd.DataFrame:
    """Tabulate findings, one per row: case, check, detail, action, parameter."""
    rows = [(name, *vars(one).values()) for name, found in zip(names, findings, strict=True) for one in found]
    return pd.DataFrame(rows, columns=["case", "check", "detail", "action", "parameter"])
