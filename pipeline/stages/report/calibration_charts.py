"""The calibration curve with its band and its bins, above the predictions of events and of the others."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from pipeline.stages.report.blocks import Row, colour_of, set_name
from pipeline.stages.report.plots import Area, Axes, Bar, Column, Line, Point, chart

BEFORE = 4
OTHERS = 5
HISTOGRAM_HEIGHT = 140


def calibration_chart(
    scope: str, curve: Sequence[Row], counts: Sequence[Row], bins: Sequence[Row], unit: str
) -> dict[str, Any]:
    """Draw how often the event happens at each prediction, and how often each prediction was made.

    Parameters
    ----------
    scope : str
        The set of cases.
    curve : sequence of mapping
        Rows of state ("uncalibrated", "calibrated"), prediction, and observed with _lower and _upper.
    counts : sequence of mapping
        Rows of lower and upper, the edges of a bin, and of events and others, the cases in it.
    bins : sequence of mapping
        Rows of prediction, observed, lower and upper; none where no bins are drawn.
    unit : str
        What is counted: "patients" or "images".

    Returns
    -------
    dict
        svg, of the curve and below it the histogram, and caption.
    """
    name, colour = set_name(scope), colour_of(scope)
    events, others = (sum(row[kind] for row in counts) for kind in ("events", "others"))
    svg = _curve(f"Calibration curve, {name}", colour, curve, bins)
    svg += _histogram(f"Predictions of events and of the others, {name}", colour, counts, unit)
    dots = "; dots are bins, with Wilson's 95 % intervals" if bins else ""
    dots += (
        ""
        if any(row["state"] == "calibrated" for row in curve)
        else "; too few cases are near any prediction for a curve"
    )
    below = f"Below, the number of {unit} with each prediction: events upwards, non-events downwards"
    return {"svg": svg, "caption": f"{name}, n = {events + others} {unit}, {events} events{dots}. {below}"}


def points_of(rows: Sequence[Row], x: str, y: str) -> list[Point]:
    """Take the points of a curve where it has a value."""
    return [(row[x], row[y]) for row in rows if row[y] is not None]


def band_of(rows: Sequence[Row], x: str, y: str, colour: int) -> Area:
    """Take the band of a curve where it has one."""
    limits = [(row[x], row[f"{y}_lower"], row[f"{y}_upper"]) for row in rows]
    return Area([(at, low, high) for at, low, high in limits if low is not None and high is not None], colour)


def _curve(title: str, colour: int, curve: Sequence[Row], bins: Sequence[Row]) -> Markup:
    after, before = ([row for row in curve if row["state"] == state] for state in ("calibrated", "uncalibrated"))
    lines = [
        Line("calibrated", points_of(after, "prediction", "observed"), colour),
        Line("before", points_of(before, "prediction", "observed"), BEFORE, dashed=True),
        Line("", points_of(bins, "prediction", "observed"), colour, marks=True, joined=False),
    ]
    bars = [Bar(row["prediction"], row["lower"], row["upper"], colour) for row in bins]
    axes = Axes("prediction", "observed share", diagonal=True)
    return chart(title, axes, lines, bars, areas=[band_of(after, "prediction", "observed", colour)])


def _histogram(title: str, colour: int, counts: Sequence[Row], unit: str) -> Markup:
    upwards = [Column(row["lower"], row["upper"], 0, row["events"], colour=colour) for row in counts]
    downwards = [Column(row["lower"], row["upper"], -row["others"], 0, colour=OTHERS) for row in counts]
    highest = max((row[name] for row in counts for name in ("events", "others")), default=0) or 1
    highest *= 1.05
    axes = Axes(
        "", unit, (0, 1), (-highest, highest), y_whole=True, unsigned=True, height=HISTOGRAM_HEIGHT, legend=False
    )
    return chart(title, axes, [], columns=[*upwards, *downwards])
