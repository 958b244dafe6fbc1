"""Check the column `label` of a regression: one finite number per case."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.imaging.labels import REGRESSION
from pipeline.imaging.tables.cohort_table import EXAMPLES
from pipeline.schema import Cohort

UNLABELLED = "unlabelled"


def problems_of_numbers(table: pd.DataFrame, file: Path) -> list[str]:
    """List the rows whose label is no finite number, and labels that do not vary; no value is told.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `label` and `split`, a row for each case.
    file : Path
        Where the table was read, for the messages.
    """
    rows = zip(table["label"], table["split"], strict=True)
    found = listed("label", [_flaw_of(text, split) for text, split in rows], file)
    known = {float(text) for text in table["label"] if text and not _flaw_of(text, "")}
    if not found and len(known) < 2:
        found.append(f"{file}: column 'label' holds {len(known)} different number(s); a regression needs more")
    return found


def with_numbers(table: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Write the labels of a regression in one way, so that equal numbers are equal texts; other tables stay."""
    if cohort.task != REGRESSION:
        return table
    return table.assign(label=[repr(float(text)) if text else "" for text in table["label"]])


def listed(column: str, flaws: Sequence[str], file: Path) -> list[str]:
    """Name the first rows that have a flaw, of a list with one text for each row, and count the others."""
    flawed = [(row, flaw) for row, flaw in enumerate(flaws, 1) if flaw]
    found = [f"{file}, row {row}, column '{column}': {flaw}" for row, flaw in flawed[:EXAMPLES]]
    if len(flawed) > EXAMPLES:
        found.append(f"{file}: column '{column}' has {len(flawed) - EXAMPLES} more such rows")
    return found


def _flaw_of(text: str, split: str) -> str:
    if not text:
        cure = "write the number, or unlabelled in the column split if it is not known"
        return "" if split == UNLABELLED else f"the number is missing; {cure}"
    return flaw_of_number(text)


def flaw_of_number(text: str) -> str:
    """Say why a text is no finite number; "" if it is one."""
    try:
        value = float(text if "_" not in text else "")
    except ValueError:
        return "it is no number; write one with a decimal point, such as 12.5, without its unit"
    return "" if math.isfinite(value) else "it is not finite; write the number, or take the row out"
