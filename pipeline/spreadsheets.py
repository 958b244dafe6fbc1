"""Keep text in CSV files from being run: a spreadsheet takes a cell that begins with = + - @ tab or CR as a formula."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r]")
QUOTED = re.compile(r"'+[=+\-@\t\r]")
MARKS = set("'=+-@\t\r")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf")


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table without formulas; if a text holds a CR, which ends a line unless it is quoted, quote all texts."""
    safe = neutralised(table)
    texts = safe.select_dtypes(exclude="number")
    quoted = any("\r" in str(cell) for _, column in texts.items() for cell in column.unique())
    quoting = csv.QUOTE_NONNUMERIC if quoted else csv.QUOTE_MINIMAL
    safe.to_csv(file, index=False, lineterminator="\n", quoting=quoting)


def neutralised(table: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before every text and column name that a spreadsheet would run; numbers stay as they are.

    >>> neutralised(pd.DataFrame({"@x": ["=1+1", "-0.5", "a=b"]})).to_dict("list")
    {"'@x": ["'=1+1", '-0.5', 'a=b']}
    """
    return _changed(table, lambda text: f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text)


def restored(table: pd.DataFrame) -> pd.DataFrame:
    """Undo `neutralised`, so that every text is read as it was."""
    return _changed(table, lambda text: text[1:] if QUOTED.match(text) else text)


def _changed(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    found = table.rename(columns=lambda name: change(name) if isinstance(name, str) else name)
    for number, kind in enumerate(table.dtypes):
        if not pd.api.types.is_numeric_dtype(kind) and _may_change(column := found.iloc[:, number]):
            found.isetitem(number, column.map(lambda cell: change(cell) if isinstance(cell, str) else cell))
    return found


def _may_change(column: "pd.Series[str]") -> bool:
    """Tell whether any text begins with an apostrophe or as a formula."""
    return bool(MARKS & {cell[:1] for cell in column.tolist() if isinstance(cell, str)})
