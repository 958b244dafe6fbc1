"""A forest plot: metrics with their intervals on one scale, each to stand in its row of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pipeline.stages.report.plots import Point, nice_range, round_ticks

MARGIN = 12
ROW_HEIGHT, AXIS_HEIGHT = 18, 16
APART = 36  # the least distance between ticks


@dataclass(frozen=True)
class Whisker:
    """A metric from 0 to 1 with its interval, what it is to be read against, and the number of its colour.

    What is not known is None; without a metric nothing is drawn.
    """

    value: float | None
    lower: float | None
    upper: float | None
    mark: float | None
    colour: int


def forest_of(whiskers: Sequence[Whisker], width: int = 230) -> dict[str, Any]:
    """Draw each interval as a line, its metric as a dot, and the mark upright.

    Parameters
    ----------
    whiskers : sequence of Whisker
    width : int
        In pixels.

    Returns
    -------
    dict
        drawn, one image for each whisker, and axis, the scale below them.
    """
    ends = [end for one in whiskers for end in (one.value, one.lower, one.upper, one.mark) if end is not None]
    low, high = nice_range(ends)
    limits = (max(low, 0.0), min(high, 1.0))
    scale = _Scale(limits, width)
    return {"drawn": [_whisker(one, scale) for one in whiskers], "axis": _axis(scale)}


@dataclass(frozen=True)
class _Scale:
    limits: Point
    width: int

    def along(self, value: float) -> float:
        """Give the place of a value, in pixels from the left."""
        low, high = self.limits
        return round(MARGIN + (value - low) / (high - low) * (self.width - 2 * MARGIN), 1)

    def opened(self, height: int) -> str:
        """Begin an image that screen readers pass over: the row of the table says the same."""
        size = f'viewBox="0 0 {self.width} {height}" width="{self.width}" height="{height}"'
        return f'<svg {size} class="whisker" aria-hidden="true">'


def _whisker(one: Whisker, scale: _Scale) -> Markup:
    if one.value is None:
        return Markup("")
    colour, y = one.colour, ROW_HEIGHT / 2
    parts = [scale.opened(ROW_HEIGHT)]
    if one.mark is not None:
        x = scale.along(one.mark)
        parts.append(f'<line class="inside c{colour}" x1="{x}" x2="{x}" y1="1" y2="{ROW_HEIGHT - 1}"/>')
    if one.lower is not None and one.upper is not None:
        x1, x2 = scale.along(one.lower), scale.along(one.upper)
        parts.append(f'<line class="curve c{colour}" x1="{x1}" x2="{x2}" y1="{y}" y2="{y}"/>')
    parts.append(f'<circle class="dot c{colour}" cx="{scale.along(one.value)}" cy="{y}" r="4"/></svg>')
    return Markup("".join(parts))  # numbers only


def _axis(scale: _Scale) -> Markup:
    low, high = scale.limits
    parts = [scale.opened(AXIS_HEIGHT)]
    for value in round_ticks((low, high), (scale.width - 2 * MARGIN) / APART):
        x = scale.along(value)
        parts.append(f'<text class="tick" x="{x}" y="11" text-anchor="middle">{value:.2g}</text>')
    return Markup("".join([*parts, "</svg>"]))  # numbers only
