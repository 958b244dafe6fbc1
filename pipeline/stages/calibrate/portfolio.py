"""Evaluate each member of a portfolio, and what the mean of their probabilities gains over it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import paths
from pipeline.metrics.calibrators.calibrator import Temperature
from pipeline.metrics.comparison import Predictions, Settings, paired
from pipeline.metrics.evaluation import TaskSpec, logits_of
from pipeline.metrics.summary import as_number, limits_of
from pipeline.paths import Role
from pipeline.stages.calibrate.predictions import labels_of

METRICS = ("auc", "log_loss")
PORTFOLIO = "portfolio"
COLUMNS = ["member", "n", *limits_of(*METRICS), *limits_of(*(f"{metric}_gain" for metric in METRICS))]


def evaluate_members(folds: Sequence[str], spec: TaskSpec, settings: Settings) -> pd.DataFrame:
    """Compute the uncalibrated metrics of each member on the held-out cases of all folds, pooled.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`, the portfolio first. A gain is the improvement of the portfolio over the member, positive if
        it is better, with the interval of a paired patient bootstrap. No rows if a fold has a single network.
    """
    files = [paths.member_predictions(fold) for fold in folds]
    tables = [_held_out(file, fold) for file, fold in zip(files, folds, strict=True) if file.exists()]
    if len(tables) < len(files) or any(table.empty for table in tables):
        return pd.DataFrame(columns=COLUMNS)
    mean = _predictions(pd.concat(_held_out(paths.predictions(fold), fold) for fold in folds), spec)
    rows = [_row(PORTFOLIO, mean, mean, settings)]
    for name, table in pd.concat(tables).groupby("member", sort=False):
        rows.append(_row(str(name), _predictions(table, spec), mean, settings))
    return pd.DataFrame(rows, columns=COLUMNS)


def _held_out(file: Path, fold: str) -> pd.DataFrame:
    table = paths.read_table(file)
    return table[table["role"] == Role.HELD_OUT].assign(fold=fold)


def _predictions(cases: pd.DataFrame, spec: TaskSpec) -> Predictions:
    units, patients = (cases[column].to_numpy(dtype=str) for column in ("case", "patient"))
    uncalibrated = Temperature(1.0, "sigmoid" if spec.task == "multilabel" else "softmax")
    probabilities, folds = uncalibrated.apply(logits_of(cases)), cases["fold"].to_numpy(dtype=str)
    return Predictions(units, patients, labels_of(cases, spec), probabilities, folds=folds)


def _row(name: str, member: Predictions, mean: Predictions, settings: Settings) -> dict[str, Any]:
    row: dict[str, Any] = {"member": name, "n": len(member.units)}
    for found in paired(member, mean, settings):
        if found.metric in METRICS:
            one, gain = found.reference, found.better_by
            row |= dict(zip(limits_of(found.metric), (one.value, one.lower, one.upper), strict=True))
            if gain is not None and name != PORTFOLIO:
                values = (gain.value, gain.lower, gain.upper)
                row |= dict(zip(limits_of(f"{found.metric}_gain"), values, strict=True))
    return {key: as_number(value) if isinstance(value, float) else value for key, value in row.items()}
