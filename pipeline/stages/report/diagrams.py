"""The diagrams of the page, each from one table of metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.stages.report.blocks import PATIENTS, colour_of
from pipeline.stages.report.plots import Axes, Bar, Line, chart, nice_range

KEPT = 3
LOSSES = {"regression": "Huber loss", "survival": "negative partial log-likelihood"}


def training_curve(fold: str, table: pd.DataFrame, task: str = "multiclass") -> dict[str, Any]:
    """Draw the losses of one training, with columns epoch, train_loss, validation_loss and best.

    The vertical mark is the epoch that was kept.
    """
    kept, last = int(table.loc[table["best"], "epoch"].max()), int(table["epoch"].max())
    lines = [Line("training", _points(table, "train_loss"), 1)]
    if table["validation_loss"].notna().all():
        lines.append(Line("validation", _points(table, "validation_loss"), 2))
    loss = LOSSES.get(task, "weighted log-loss")
    svg = _of_epochs(f"Training curve of fold {fold}", "epoch (0 is the probe)", loss, lines, kept=kept)
    return {"svg": svg, "fold": fold, "caption": f"Fold {fold}: epoch {kept} kept of {last} run"}


def unlabelled_curve(fold: str, rows: Sequence[Mapping[str, Any]], kept: int) -> dict[str, Any]:
    """Draw one learning without labels; the vertical mark is the epoch that was kept, 0 the encoder as it came.

    Parameters
    ----------
    rows : sequence of mapping
        One per epoch: epoch, train_loss, held_out_loss, control_loss, rank.
    """
    table = pd.DataFrame(rows)
    lines = [
        Line("training", _points(table, "train_loss"), 1),
        Line("set aside", _points(table, "held_out_loss"), 2),
        Line("control", _points(table, "control_loss"), 4, dashed=True),
    ]
    title = f"Learning without labels, fold {fold}"
    svg = _of_epochs(title, "epoch (0 is the encoder as it came)", "loss without labels", lines, kept=kept)
    what = f"epoch {kept} kept" if kept else "none beat the control, so the encoder stayed as it came,"
    caption = f"Fold {fold}: {what} of {int(table['epoch'].max())} run"
    return {"svg": svg, "fold": fold, "caption": caption, "rows": rows, "kept": kept}


def roc(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Draw the ROC curve of each scope, from columns scope, false_positive_rate and true_positive_rate.

    Scopes of patients ("internal_patients") have a chart of their own.
    """
    of_patients = table["scope"].str.endswith(PATIENTS)
    drawn = [("ROC curves", "ROC curve", table[~of_patients])]
    if of_patients.any():
        drawn.append(("ROC curves of patients", "ROC curve, patients", table[of_patients]))
    axes = Axes("1 - specificity", "sensitivity", diagonal=True)
    return [{"svg": chart(title, axes, _roc_lines(some)), "caption": caption} for title, caption, some in drawn]


def _roc_lines(table: pd.DataFrame) -> list[Line]:
    lines = []
    for scope, group in table.groupby("scope", sort=False):
        name = scope.removesuffix(PATIENTS)
        points = list(zip(group["false_positive_rate"], group["true_positive_rate"], strict=True))
        lines.append(Line(name, points, colour_of(name)))
    return lines


def _points(table: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    return list(zip(table["epoch"], table[column], strict=True))


def _of_epochs(title: str, x_name: str, y_name: str, lines: Sequence[Line], kept: int) -> Markup:
    """Draw losses over epochs, whose ticks are whole numbers, with a mark at the epoch that was kept."""
    last = max(int(max(epoch for line in lines for epoch, _ in line.points)), 1)
    losses = [loss for line in lines for _, loss in line.points]
    axes = Axes(x_name, y_name, (0, last), nice_range(losses), x_whole=True)
    return chart(title, axes, lines, [Bar(kept, *axes.y_range, KEPT)])
