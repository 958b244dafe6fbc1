"""Plots as SVG text: drawn by hand, coloured by the page's style sheet, readable without a script."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

Point = tuple[float, float]
WIDTH, HEIGHT = 340, 300
RIGHT, TOP, BOTTOM = 12, 26, 42
LETTER = 5.8  # how wide a letter of a tick is, about
APART = (44, 26)  # the least distance between ticks of x, and of y


@dataclass(frozen=True)
class Line:
    """A curve: its name in the legend, its points, and the number of its colour in the style sheet (1 to 6).

    Points can be marked, and be left unjoined. A curve of one fold bears its place among the folds, by which the page
    hides it.
    """

    name: str
    points: Sequence[Point]
    colour: int
    dashed: bool = False
    marks: bool = False
    joined: bool = True
    fold: int | None = None


@dataclass(frozen=True)
class Bar:
    """An upright interval at x, from low to high, with the number of its colour."""

    x: float
    low: float
    high: float
    colour: int


@dataclass(frozen=True)
class Area:
    """A band: (x, low, high) at every point, with the number of its colour."""

    points: Sequence[tuple[float, float, float]]
    colour: int


@dataclass(frozen=True)
class Column:
    """A filled rectangle of a histogram, with the number of its colour."""

    left: float
    right: float
    low: float
    high: float
    colour: int


@dataclass(frozen=True)
class Axes:
    """Names and ranges of both axes, and how they are drawn.

    Attributes
    ----------
    x_name, y_name : str
    x_range, y_range : (low, high)
    diagonal : bool
        Whether the line from the lower left to the upper right is drawn.
    x_whole, y_whole : bool
        Whether ticks are whole numbers.
    unsigned : bool
        Whether what lies below zero is shown by its size, as in a histogram that is drawn in both directions.
    height : int
    legend : bool
        Whether there is room above for the names of curves.
    """

    x_name: str
    y_name: str
    x_range: Point = (0.0, 1.0)
    y_range: Point = (0.0, 1.0)
    diagonal: bool = False
    x_whole: bool = False
    y_whole: bool = False
    unsigned: bool = False
    height: int = HEIGHT
    legend: bool = True

    @property
    def x_ticks(self) -> list[float]:
        """Give the places of the ticks of x."""
        return round_ticks(self.x_range, (WIDTH - self.left - RIGHT) / APART[0], self.x_whole)

    @property
    def y_ticks(self) -> list[float]:
        """Give the places of the ticks of y."""
        return round_ticks(self.y_range, (self.bottom - self.top) / APART[1], self.y_whole)

    @property
    def top(self) -> int:
        """Give the upper end of the frame."""
        return TOP if self.legend else 8

    @property
    def bottom(self) -> int:
        """Give the lower end of the frame."""
        return self.height - (BOTTOM if self.x_name else BOTTOM - 20)

    @property
    def left(self) -> float:
        """Leave room on the left for the name of y and for its longest tick."""
        return max(46.0, 24 + LETTER * max(len(self.y_label(value)) for value in self.y_ticks))

    def y_label(self, value: float) -> str:
        """Write a tick of y."""
        return _tick(abs(value) if self.unsigned else value)


def chart(
    title: str,
    axes: Axes,
    lines: Sequence[Line],
    bars: Sequence[Bar] = (),
    areas: Sequence[Area] = (),
    columns: Sequence[Column] = (),
) -> Markup:
    """Draw curves, intervals, bands and columns in one frame; the title is read aloud by screen readers."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {axes.height}" role="img" class="chart"><title>{escape(title)}</title>',
        *_frame(axes),
        *(_area(area, axes) for area in areas),
        *(_column(column, axes) for column in columns),
        *(_bar(bar, axes) for bar in bars),
        *(_curve(line, axes) for line in lines),
        *_legend(lines, axes),
        "</svg>",
    ]
    return Markup("".join(parts))  # every text in it is escaped above


def nice_range(values: Sequence[float]) -> Point:
    """Widen the range of some values by a twentieth on both sides; (0, 1) where there are none."""
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or 0.5
    return low - margin, high + margin


def cut_below(points: Sequence[Point], low: float) -> list[Point]:
    """Keep the part of a falling curve that lies above a height, down to where it crosses it."""
    kept = [point for point in points if point[1] >= low]
    if 0 < len(kept) < len(points):
        (x1, y1), (x2, y2) = kept[-1], points[len(kept)]
        kept.append((x1 + (y1 - low) / (y1 - y2) * (x2 - x1), low))
    return kept


def round_ticks(limits: Point, most: float, whole: bool = False) -> list[float]:
    """Choose ticks within a range, multiples of 1, 2 or 5 times a power of ten, with at most so many steps between."""
    low, high = limits
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(width * power for width in (1, 2, 5, 10) if width * power * most >= high - low)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [number * step for number in range(first, last + 1)]


def _place(point: Point, axes: Axes) -> Point:
    (x_low, x_high), (y_low, y_high) = axes.x_range, axes.y_range
    x = axes.left + (point[0] - x_low) / (x_high - x_low) * (WIDTH - axes.left - RIGHT)
    y = axes.bottom - (point[1] - y_low) / (y_high - y_low) * (axes.bottom - axes.top)
    return round(x, 1), round(y, 1)


def _frame(axes: Axes) -> list[str]:
    (x_low, x_high), (y_low, y_high) = axes.x_range, axes.y_range
    parts = []
    for value in axes.x_ticks:
        x, _ = _place((value, y_low), axes)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{axes.top}" y2="{axes.bottom}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{axes.bottom + 14}" text-anchor="middle">{_tick(value)}</text>')
    for value in axes.y_ticks:
        _, y = _place((x_low, value), axes)
        label = f'<text class="tick" x="{axes.left - 5}" y="{y + 3.5}" text-anchor="end">{axes.y_label(value)}</text>'
        parts += [f'<line class="grid" x1="{axes.left}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>', label]
    if axes.diagonal:
        (x1, y1), (x2, y2) = _place((x_low, y_low), axes), _place((x_high, y_high), axes)
        parts.append(f'<line class="diagonal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    return [*parts, *_names(axes)]


def _names(axes: Axes) -> list[str]:
    x, y = (axes.left + WIDTH - RIGHT) / 2, (axes.top + axes.bottom) / 2
    turn = f'transform="rotate(-90 12 {y})"'
    return [
        f'<text class="axis" x="{x}" y="{axes.height - 8}" text-anchor="middle">{escape(axes.x_name)}</text>',
        f'<text class="axis" x="12" y="{y}" {turn} text-anchor="middle">{escape(axes.y_name)}</text>',
    ]


def _tick(value: float) -> str:
    if abs(value) < 1e-9:  # what rounding leaves of zero
        return "0"
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def _curve(line: Line, axes: Axes) -> str:
    placed = [_place(point, axes) for point in line.points]
    joined = " ".join(f"{x},{y}" for x, y in placed)
    more = (" dashed" if line.dashed else "") + ("" if line.fold is None else f" f{line.fold}")
    dots = (
        "".join(f'<circle class="dot c{line.colour}" cx="{x}" cy="{y}" r="3"/>' for x, y in placed)
        if line.marks
        else ""
    )
    curve = f'<polyline class="curve c{line.colour}{more}" points="{joined}"/>' if line.joined else ""
    return f"{curve}{dots}"


def _bar(bar: Bar, axes: Axes) -> str:
    (x, low), (_, high) = _place((bar.x, bar.low), axes), _place((bar.x, bar.high), axes)
    return f'<line class="interval c{bar.colour}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>'


def _area(area: Area, axes: Axes) -> str:
    lower = [_place((x, low), axes) for x, low, _ in area.points]
    upper = [_place((x, high), axes) for x, _, high in area.points]
    around = " ".join(f"{x},{y}" for x, y in [*lower, *reversed(upper)])
    return f'<polygon class="area c{area.colour}" points="{around}"/>'


def _column(column: Column, axes: Axes) -> str:
    (x1, y1), (x2, y2) = _place((column.left, column.high), axes), _place((column.right, column.low), axes)
    size = f'width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"'
    return f'<rect class="column c{column.colour}" x="{x1}" y="{y1}" {size}/>'


def _legend(lines: Sequence[Line], axes: Axes) -> list[str]:
    """Write the names in a row above the frame, where no curve can cross them."""
    parts, x = [], axes.left
    for line in lines:
        if line.name:
            dashed = " dashed" if line.dashed else ""
            parts.append(f'<line class="curve c{line.colour}{dashed}" x1="{x:.1f}" x2="{x + 18:.1f}" y1="12" y2="12"/>')
            parts.append(f'<text class="legend" x="{x + 22:.1f}" y="15.5">{escape(line.name)}</text>')
            x += 34 + LETTER * len(line.name)
    return parts
