"""Plots as SVG text: drawn by hand, coloured by the page's style sheet, readable without a script."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

Point = tuple[float, float]
WIDTH, HEIGHT = 340, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 42


@dataclass(frozen=True)
class Line:
    """A curve: its name in the legend, its points, and the number of its colour in the style sheet (1 to 6)."""

    name: str
    points: Sequence[Point]
    colour: int
    dashed: bool = False
    marks: bool = False


@dataclass(frozen=True)
class Bar:
    """An upright interval at x, from low to high, with the number of its colour."""

    x: float
    low: float
    high: float
    colour: int


@dataclass(frozen=True)
class Axes:
    """Names and ranges of both axes, the number of steps between the ticks of x, and whether the diagonal is drawn."""

    x_name: str
    y_name: str
    x_range: Point = (0.0, 1.0)
    y_range: Point = (0.0, 1.0)
    x_steps: int = 5
    diagonal: bool = False


def chart(title: str, axes: Axes, lines: Sequence[Line], bars: Sequence[Bar] = ()) -> Markup:
    """Draw curves and intervals in one frame; the title is read aloud by screen readers."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart"><title>{escape(title)}</title>',
        *_frame(axes),
        *(_bar(bar, axes) for bar in bars),
        *(_curve(line, axes) for line in lines),
        *_legend(lines),
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


def _place(point: Point, axes: Axes) -> Point:
    (x_low, x_high), (y_low, y_high) = axes.x_range, axes.y_range
    x = LEFT + (point[0] - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
    y = HEIGHT - BOTTOM - (point[1] - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
    return round(x, 1), round(y, 1)


def _frame(axes: Axes) -> list[str]:
    (x_low, x_high), (y_low, y_high) = axes.x_range, axes.y_range
    parts = []
    for step in range(axes.x_steps + 1):
        value = x_low + (x_high - x_low) * step / axes.x_steps
        x, _ = _place((value, y_low), axes)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{_tick(value)}</text>'
        )
    for step in range(6):
        value = y_low + (y_high - y_low) * step / 5
        _, y = _place((x_low, value), axes)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y + 3.5}" text-anchor="end">{_tick(value)}</text>')
    if axes.diagonal:
        (x1, y1), (x2, y2) = _place((x_low, y_low), axes), _place((x_high, y_high), axes)
        parts.append(f'<line class="diagonal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="axis" x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">{escape(axes.x_name)}</text>'
    )
    turn = f'transform="rotate(-90 12 {middle_y})"'
    parts.append(f'<text class="axis" x="12" y="{middle_y}" {turn} text-anchor="middle">{escape(axes.y_name)}</text>')
    return parts


def _tick(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def _curve(line: Line, axes: Axes) -> str:
    placed = [_place(point, axes) for point in line.points]
    joined = " ".join(f"{x},{y}" for x, y in placed)
    dashed = " dashed" if line.dashed else ""
    dots = (
        "".join(f'<circle class="dot c{line.colour}" cx="{x}" cy="{y}" r="3"/>' for x, y in placed)
        if line.marks
        else ""
    )
    return f'<polyline class="curve c{line.colour}{dashed}" points="{joined}"/>{dots}'


def _bar(bar: Bar, axes: Axes) -> str:
    (x, low), (_, high) = _place((bar.x, bar.low), axes), _place((bar.x, bar.high), axes)
    return f'<line class="interval c{bar.colour}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>'


def _legend(lines: Sequence[Line]) -> list[str]:
    """Write the names in a row above the frame, where no curve can cross them."""
    parts = []
    for number, line in enumerate(line for line in lines if line.name):
        x = LEFT + 96 * number
        dashed = " dashed" if line.dashed else ""
        parts.append(f'<line class="curve c{line.colour}{dashed}" x1="{x}" x2="{x + 20}" y1="12" y2="12"/>')
        parts.append(f'<text class="legend" x="{x + 25}" y="15.5">{escape(line.name)}</text>')
    return parts
