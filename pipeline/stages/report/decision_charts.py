"""The decision curve and the risk-coverage curve, and in words where acting on the predictions pays."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pipeline.stages.report.blocks import Row, colour_of, set_name
from pipeline.stages.report.calibration_charts import band_of, points_of
from pipeline.stages.report.plots import Axes, Line, chart, cut_below, nice_range

ALL, NO_ONE = 4, 6


def decision_chart(scope: str, rows: Sequence[Row], unit: str) -> dict[str, Any]:
    """Draw the net benefit of acting on the predictions against acting on all and on none.

    Parameters
    ----------
    scope : str
        The set of cases.
    rows : sequence of mapping
        One per threshold, rising: threshold, net_benefit with _lower and _upper, treat_all, treat_none, n, events.
    unit : str
        What is counted: "patients" or "images".

    Returns
    -------
    dict
        svg and caption.
    """
    band = band_of(rows, "threshold", "net_benefit", colour_of(scope))
    heights = [row["treat_none"] for row in rows] + [y for _, low, high in band.points for y in (low, high)]
    heights += [y for _, y in points_of(rows, "threshold", "net_benefit")] + [rows[0]["treat_all"]]
    axes = Axes("threshold", "net benefit", (rows[0]["threshold"], rows[-1]["threshold"]), nice_range(heights))
    lines = [
        Line("model", points_of(rows, "threshold", "net_benefit"), colour_of(scope)),
        Line("act on all", cut_below(points_of(rows, "threshold", "treat_all"), axes.y_range[0]), ALL, dashed=True),
        Line("on none", points_of(rows, "threshold", "treat_none"), NO_ONE, dashed=True),
    ]
    caption = f"{set_name(scope)}, n = {rows[0]['n']} {unit}, {rows[0]['events']} events; {where_it_pays(rows)}"
    return {"svg": chart(f"Decision curve, {set_name(scope)}", axes, lines, areas=[band]), "caption": caption}


def where_it_pays(rows: Sequence[Row]) -> str:
    """Say at which thresholds the gain over acting on all or on none is above 0 with its whole interval."""
    runs = [list(run) for pays, run in groupby(rows, key=_surely_pays) if pays]
    if not runs:
        return "at no threshold is the model better than acting on all and on none (interval of the gain above 0)"
    spans = " and ".join(_span(run[0]["threshold"], run[-1]["threshold"]) for run in runs)
    spans = spans.replace("and thresholds from", "and from")
    return f"the model is better than acting on all and on none (interval of the gain above 0) at {spans}"


def risk_chart(scope: str, rows: Sequence[Row], unit: str) -> dict[str, Any]:
    """Draw the share of errors among the most certain answers.

    Parameters
    ----------
    scope : str
        The set of cases.
    rows : sequence of mapping
        One per coverage, rising: coverage, risk with _lower and _upper, n.
    unit : str
        What is counted: "patients", "images", or "answers".

    Returns
    -------
    dict
        svg and caption.
    """
    band = band_of(rows, "coverage", "risk", colour_of(scope))
    highest = max([high for _, _, high in band.points] + [y for _, y in points_of(rows, "coverage", "risk")], default=1)
    share = (0, min(highest * 1.05, 1) or 1)
    axes = Axes("coverage: share of cases that are answered", "share of errors", (0, 1), share, legend=False)
    lines = [Line("", points_of(rows, "coverage", "risk"), colour_of(scope))]
    svg = chart(f"Risk-coverage curve, {set_name(scope)}", axes, lines, areas=[band])
    return {"svg": svg, "caption": f"{set_name(scope)}, n = {rows[-1]['n']} {unit}"}


def _surely_pays(row: Row) -> bool:
    return row["gain_lower"] is not None and row["gain_lower"] > 0


def _span(first: float, last: float) -> str:
    return f"{first:.2f}" if first == last else f"thresholds from {first:.2f} to {last:.2f}"
