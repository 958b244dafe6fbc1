"""The folder evidence/ of a bundle: metrics by which a reader can doubt the model, and nothing that names a patient."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import paths

Config = dict[str, Any]

FOLDER = Path("evidence")
TABLES = (
    "decision_curve",
    "operating_points",
    "subgroups",
    "conformal",
    "calibration",
    "calibration_curve",
    "abstention",
)
ROLES = ["case", "patient", "role"]  # pseudonyms; a label is not needed to see that nobody stands on two sides


def write_evidence(
    bundle: Path, calibrated: Config, metrics: dict[str, Config], gates: list[Config], settings: Config
) -> None:
    """Write metrics with intervals, tables, the split in pseudonyms, the gates, and how the model was trained.

    Parameters
    ----------
    bundle : Path
    calibrated : dict
        The `form` of the release and its `members`.
    metrics : dict
        Calibrated metrics by scope.
    gates : list of dict
    settings : dict
        Sections of params.yaml that made the model, without paths of the machine that ran it.
    """
    folder = bundle / FOLDER
    paths.write_json(metrics, folder / "metrics.json")
    paths.write_json(gates, folder / "gates.json")
    paths.write_json(settings, folder / "settings.json")
    for name in calibrated["members"]:
        paths.write_table(paths.read_table(paths.split(name))[ROLES], folder / "split" / f"{name}.csv")
    for name in TABLES:
        if paths.assessed(name).exists():  # a table that a task has no use for is not written
            shutil.copyfile(paths.assessed(name), folder / f"{name}.csv")


def read_metrics(file: Path) -> pd.DataFrame:
    """Read a table of metrics; names stay names, a class called NA too, and an empty cell is no number."""
    return pd.read_csv(file, dtype={"class": str, "of": str, "value": str}, keep_default_na=False, na_values=[""])


def rows_with(metrics: dict[str, Config], name: str, columns: tuple[str, ...]) -> list[Config]:
    """Read a table's rows of the sets in `metrics`, of patients where they have their own, with metrics in `columns`.

    A metric that does not exist (a group is too small, nobody is called positive) is None. A table that this task does
    not have gives no rows.
    """
    if not paths.assessed(name).exists():
        return []
    level = "_patients" if "internal_patients" in metrics else ""
    table = read_metrics(paths.assessed(name))
    rows = table[table["scope"].isin([scope for scope in metrics if scope.endswith(level)])].to_dict("records")
    return [row | {column: metric_in(row, column) for column in columns} for row in rows]


def metric_in(row: Config, name: str) -> Config | None:
    """Gather a metric with its limits, if it has any; None where there is no metric."""
    value, *limits = (row.get(column) for column in (name, f"{name}_lower", f"{name}_upper"))
    if value is None or pd.isna(value):
        return None
    return {"value": value} | dict(zip(("lower", "upper"), limits, strict=True))
