"""ROC and precision-recall curves with their bands, and the curve of every fold behind them."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from pipeline.stages.report.blocks import Row, colour_of, set_name
from pipeline.stages.report.calibration_charts import band_of, points_of
from pipeline.stages.report.numbers import show_interval
from pipeline.stages.report.plots import Axes, Line, Point, chart

Metric = Mapping[str, Any] | None

ONE_FOLD = 10  # added to a colour: thin and faint, see page.css
CHANCE = 4


def roc_chart(scope: str, rows: Sequence[Row], folds: Sequence[Row], auc: Metric, unit: str) -> dict[str, Any]:
    """Draw a ROC curve with its band, and the curves of the folds.

    Parameters
    ----------
    scope : str
        The set of cases.
    rows : sequence of mapping
        One per false_positive_rate, rising: sensitivity with _lower and _upper, n, events.
    folds : sequence of mapping
        Corners of fold, false_positive_rate and sensitivity, those of a fold together; none where there is one model.
    auc : mapping or None
        value, lower and upper.
    unit : str
        What is counted: "patients" or "images".

    Returns
    -------
    dict
        svg, caption, and folds, their names in the order of the numbers that hide their curves.
    """
    colour = colour_of(scope)
    parted = {fold: list(own) for fold, own in groupby(folds, key=lambda row: row["fold"])}
    thin = [
        Line("", points_of(own, "false_positive_rate", "sensitivity"), colour + ONE_FOLD, fold=number)
        for number, own in enumerate(parted.values())
    ]
    curve: list[Point] = [(0.0, 0.0), *points_of(rows, "false_positive_rate", "sensitivity")]
    axes = Axes("1 - specificity", "sensitivity", diagonal=True, legend=False)
    band = band_of(rows, "false_positive_rate", "sensitivity", colour)
    svg = chart(f"ROC curve, {set_name(scope)}", axes, [*thin, Line("", curve, colour)], areas=[band])
    said = "; thin: the folds" if thin else ""
    caption = Markup("ROC curve, {}; AUC {}{}").format(_sizes(scope, rows, unit), show_interval(auc), said)
    return {"svg": svg, "caption": caption, "folds": list(parted)}


def pr_chart(scope: str, rows: Sequence[Row], average_precision: Metric, unit: str) -> dict[str, Any]:
    """Draw a precision-recall curve with its band, and the share of events, which is chance.

    Parameters
    ----------
    scope : str
        The set of cases.
    rows : sequence of mapping
        One per recall, rising: precision with _lower and _upper, n, events.
    average_precision : mapping or None
        value, lower and upper.
    unit : str
        What is counted: "patients" or "images".

    Returns
    -------
    dict
        svg and caption.
    """
    share = rows[0]["events"] / rows[0]["n"]
    lines = [
        Line("", [(0.0, share), (1.0, share)], CHANCE, dashed=True),
        Line("", points_of(rows, "recall", "precision"), colour_of(scope)),
    ]
    axes = Axes("recall (sensitivity)", "precision (PPV)", legend=False)
    band = band_of(rows, "recall", "precision", colour_of(scope))
    svg = chart(f"Precision-recall curve, {set_name(scope)}", axes, lines, areas=[band])
    known = _sizes(scope, rows, unit), show_interval(average_precision)
    caption = Markup("Precision and recall, {}; average precision {}; dashed: the share of events").format(*known)
    return {"svg": svg, "caption": caption}


def _sizes(scope: str, rows: Sequence[Row], unit: str) -> str:
    return f"{set_name(scope)}, n = {rows[0]['n']} {unit}, {rows[0]['events']} events"
