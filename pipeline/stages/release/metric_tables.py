"""Read tables of metrics for the gates and the model card."""

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import paths
from pipeline.spreadsheets import restored

Config = dict[str, Any]


def read_metrics(file: Path) -> pd.DataFrame:
    """Read a table of metrics: a class may be called NA, and an empty cell is a missing number."""
    kinds = {"class": str, "of": str, "value": str}
    return restored(pd.read_csv(file, dtype=kinds, keep_default_na=False, na_values=[""]))


def plain_rows(file: Path) -> list[Config]:
    """Read the rows of a table of metrics with None for an empty cell; none if the table was not written."""
    if not file.exists():
        return []
    table = restored(pd.read_csv(file, dtype={"of": str, "group": str}, keep_default_na=False, na_values=[""]))
    rows: list[Config] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows


def rows_with(metrics: dict[str, Config], name: str, columns: tuple[str, ...]) -> list[Config]:
    """Read the rows of a table whose scope is in `metrics`: of patients if they have their own, else of images.

    Each of `columns` becomes a metric with its interval. A metric that does not exist (the group is too small, nobody
    is called positive) is None. A table that does not apply to this task gives no rows.
    """
    if not paths.assessed(name).exists():
        return []
    level = "_patients" if "internal_patients" in metrics else ""
    table = read_metrics(paths.assessed(name))
    rows = table[table["scope"].isin([scope for scope in metrics if scope.endswith(level)])].to_dict("records")
    return [row | {column: metric_in(row, column) for column in columns} for row in rows]


def metric_in(row: Config, name: str) -> Config | None:
    """Collect a metric and its interval, if it has one; None if there is no metric."""
    value, *limits = (row.get(column) for column in (name, f"{name}_lower", f"{name}_upper"))
    if value is None or pd.isna(value):
        return None
    return {"value": value} | dict(zip(("lower", "upper"), limits, strict=True))
