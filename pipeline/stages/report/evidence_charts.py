"""Learning curves, courses of training, few-shot curves and the forest of sites: each arm in its own colour."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pipeline.stages.report.blocks import Row
from pipeline.stages.report.forest import Whisker, forest_of
from pipeline.stages.report.plots import RIGHT, WIDTH, Area, Axes, Bar, Line, Point, chart, nice_range

ARMS = {"adapted": "adapted", "imagenet": "ImageNet", "scratch": "from scratch"}
COLOURS = {"adapted": 1, "imagenet": 2, "scratch": 4}
ONE_FOLD = 10  # added to a colour: thin and faint, see page.css
MULTIPLES: tuple[tuple[int, ...], ...] = ((1,), (1, 2, 5), tuple(range(1, 10)))  # of a power of ten, as ticks
ENOUGH_TICKS = 3


@dataclass(frozen=True)
class LogAxes(Axes):
    """Axes whose x is given as a decimal logarithm; `log_chart` writes the ticks."""

    @property
    def x_ticks(self) -> list[float]:
        """Leave x to `log_chart`."""
        return []


def log_chart(
    title: str, axes: LogAxes, lines: Sequence[Line], bars: Sequence[Bar] = (), areas: Sequence[Area] = ()
) -> Markup:
    """Draw over a logarithmic x: every x, also that of `axes.x_range`, is a decimal logarithm."""
    svg = str(chart(title, axes, lines, bars, areas=areas))
    return Markup(svg.replace("</title>", f"</title>{_log_ticks(axes)}", 1))  # below the curves; the title is escaped


def log_ticks(low: float, high: float) -> list[float]:
    """Choose round numbers between two positive ones: powers of ten, or, where these are few, multiples of them."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    found: list[float] = []
    for multiples in MULTIPLES:
        found = [value for power in powers for value in (m * power for m in multiples) if low <= value <= high]
        if len(found) >= ENOUGH_TICKS:
            break
    return found


def of_arms(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Take a table apart by its arm: the adapted one first, whatever order it came in; arms without a row are absent.

    Returns
    -------
    list of (str, list of mapping)
    """
    known = [*ARMS, *dict.fromkeys(row["arm"] for row in rows if row["arm"] not in ARMS)]
    parted = [(arm, [row for row in rows if row["arm"] == arm]) for arm in known]
    return [(arm, own) for arm, own in parted if own]


def arm_name(arm: str | None) -> str:
    """Name an arm as the page does."""
    return ARMS.get(arm or "", arm or "")


def banded(title: str, rows: Sequence[Row], x: str, x_name: str, y_name: str) -> Markup:
    """Draw a metric of each arm, with the band of its intervals, over a logarithmic x.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of arm, of the column `x` (above 0), and of value, lower and upper.
    """
    known = [row for row in rows if row["value"] is not None and row[x]]
    parted = of_arms(known)
    heights = [row[end] for row in known for end in ("value", "lower", "upper") if row[end] is not None]
    axes = LogAxes(x_name, y_name, nice_range([math.log10(row[x]) for row in known]), nice_range(heights))
    curves = [(arm, sorted(own, key=lambda row: row[x])) for arm, own in parted]
    lines = [_line(arm, [(math.log10(row[x]), row["value"]) for row in own]) for arm, own in curves]
    bars = [
        Bar(math.log10(row[x]), row["lower"], row["upper"], _colour(arm))
        for arm, own in curves
        for row in own
        if len(own) == 1 and row["lower"] is not None
    ]
    return log_chart(title, axes, lines, bars, areas=[_band(arm, own, x) for arm, own in curves if len(own) > 1])


def time_chart(rows: Sequence[Row]) -> Markup:
    """Draw the held-out loss of each arm over image passes: every fold thin, and their mean.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of arm, fold, epoch (rising), passes (above 0) and test_loss.
    """
    known = [row for row in rows if row["passes"] and row["test_loss"] is not None]
    lines = _folds_and_mean(known, lambda fold: [(math.log10(row["passes"]), row["test_loss"]) for row in fold])
    axes = LogAxes("image passes", "log-loss, held out", *_ranges(lines))
    return log_chart("Held-out log-loss over image passes", axes, lines)


def overfitting_chart(rows: Sequence[Row]) -> Markup:
    """Draw the held-out loss of each arm where a training loss is first reached; lower overfits less.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of arm, fold, epoch (rising), train_loss and test_loss.
    """
    known = [row for row in rows if row["train_loss"] is not None and row["test_loss"] is not None]
    lines = _folds_and_mean(known, first_reached)
    axes = Axes("log-loss, training", "log-loss, held out", *_ranges(lines))
    return chart("Held-out over training log-loss", axes, lines)


def first_reached(rows: Sequence[Row]) -> list[Point]:
    """Take the losses (training, held out) of the epochs that fit better than all before, the best fit first."""
    lowest, points = math.inf, []
    for row in rows:
        if row["train_loss"] < lowest:
            lowest = row["train_loss"]
            points.append((row["train_loss"], row["test_loss"]))
    return points[::-1]


def mean_of(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Average curves where all of them are, by straight lines between their points.

    Parameters
    ----------
    curves : sequence of sequence of (x, y)
        Each with rising x.

    Returns
    -------
    list of (x, y)
        At every x of any curve; empty where the curves have no x in common.
    """
    low, high = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    places = sorted({x for curve in curves for x, _ in curve if low <= x <= high})
    each = [np.interp(places, [x for x, _ in curve], [y for _, y in curve]) for curve in curves]
    return list(zip(places, np.mean(each, axis=0).tolist(), strict=True))


def forest(rows: Sequence[Row]) -> dict[str, Any]:
    """Draw the AUC of each row with its interval on one scale, to stand in the rows of a table.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of arm, internal_auc, and auc with _lower and _upper.

    Returns
    -------
    dict
        drawn, one image for each row, and axis, the scale below them.
    """
    whiskers = [
        Whisker(row["auc"], row["auc_lower"], row["auc_upper"], row["internal_auc"], colour=_colour(row["arm"]))
        for row in rows
    ]
    return forest_of(whiskers)


def _folds_and_mean(rows: Sequence[Row], points_of: Callable[[Sequence[Row]], list[Point]]) -> list[Line]:
    lines = []
    for arm, own in of_arms(rows):
        folds = [points_of(fold) for fold in _of_folds(own)]
        lines += [Line("", points, _colour(arm) + ONE_FOLD) for points in folds]
        lines.append(_line(arm, mean_of(folds), marks=False))
    return lines


def _line(arm: str, points: Sequence[Point], marks: bool = True) -> Line:
    return Line(arm_name(arm), points, _colour(arm), dashed=arm == "scratch", marks=marks)


def _colour(arm: str) -> int:
    return COLOURS.get(arm, 6)


def _band(arm: str, rows: Sequence[Row], x: str) -> Area:
    limits = [(math.log10(row[x]), row["lower"], row["upper"]) for row in rows]
    return Area([(at, low, high) for at, low, high in limits if low is not None and high is not None], _colour(arm))


def _of_folds(rows: Sequence[Row]) -> list[list[Row]]:
    return [[row for row in rows if row["fold"] == fold] for fold in dict.fromkeys(row["fold"] for row in rows)]


def _ranges(lines: Sequence[Line]) -> tuple[Point, Point]:
    points = [point for line in lines for point in line.points]
    return nice_range([x for x, _ in points]), nice_range([y for _, y in points])


def _log_ticks(axes: LogAxes) -> str:
    low, high = axes.x_range
    parts = []
    for value in log_ticks(10**low, 10**high):
        x = round(axes.left + (math.log10(value) - low) / (high - low) * (WIDTH - axes.left - RIGHT), 1)
        label = _thousands(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{axes.top}" y2="{axes.bottom}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{axes.bottom + 14}" text-anchor="middle">{label}</text>')
    return "".join(parts)


def _thousands(value: float) -> str:
    """Write 20000 as 20k and 3000000 as 3M."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:g}"
