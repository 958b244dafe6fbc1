"""Draw the chart at the head of each page of results, from the tables of that page.

    python benchmarks/charts.py

Each chart is docs/results/NAME.svg; a test draws them again and compares.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

PAGES = Path(__file__).resolve().parent.parent / "docs/results"
COLOURS = ("#00695c", "#c05621", "#5b6abf")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?")
WIDTH, LEFT, RIGHT, TOP, ROW, AXIS = 720, 250, 24, 58, 30, 34
INK, FAINT = "#333333", "#c8c8c8"

Table = list[list[str]]  # the header first
Value = tuple[float, float, float]  # the dot, and the ends of its line


@dataclass(frozen=True)
class Rows:
    """What a chart shows: labels, and for each series the value of each label, or None."""

    labels: Sequence[str]
    series: dict[str, Sequence[Value | None]]


@dataclass(frozen=True)
class Chart:
    """One chart: its page, what it says, a cell in the header of its table, and how the table is read."""

    page: str
    title: str
    header: str
    rows: Callable[[Table], Rows]
    log: bool = False
    from_zero: bool = False
    mark: float | None = None


def main() -> None:
    for chart in CHARTS:
        (PAGES / f"{chart.page}.svg").write_text(drawn(chart))


def drawn(chart: Chart) -> str:
    """Draw a chart from the table of its page."""
    text = (PAGES / f"{chart.page}.md").read_text()
    table = next(one for one in tables_in(text) if chart.header in one[0])
    return as_svg(chart, chart.rows(table))


def tables_in(text: str) -> list[Table]:
    """Read the tables of a page, each cell without emphasis."""
    found: list[Table] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            found.append([])
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            found[-1].append([re.sub(r"[*`]", "", cell) for cell in cells])
    return [one for one in found if one]


def numbers_in(cell: str) -> list[float]:
    return [float(one) for one in NUMBER.findall(cell)]


def by_column(names: dict[str, str], number: int = 0) -> Callable[[Table], Rows]:
    """Read one series from each of some columns: the n-th number of each cell that begins with one."""

    def read(table: Table) -> Rows:
        header, *body = table
        series = {}
        for column, name in names.items():
            cells = [row[header.index(column)] for row in body]
            series[name] = [point(numbers_in(cell)[number]) if NUMBER.match(cell) else None for cell in cells]
        return Rows([row[0] for row in body], series)

    return read


def point(value: float) -> Value:
    return value, value, value


def coverage(table: Table) -> Rows:
    """Read, for each metric, the mean, lowest and highest coverage over kinds of cohorts, before and now."""
    body = [[numbers_in(cell) for cell in row[1:] if numbers_in(cell)] for row in table[1:]]

    def span(row: list[list[float]], number: int) -> Value:
        values = [cell[number] for cell in row]
        return sum(values) / len(values), min(values), max(values)

    series = {name: [span(row, number) for row in body] for number, name in enumerate(("drawn patients", "now"))}
    return Rows([row[0] for row in table[1:]], dict(series))


def by_training(table: Table) -> Rows:
    """Read, without and with shifts, the AUC of the portfolio of fold 0 for mild and for strong augmentation."""
    header, *body = table
    columns = ["clean", "mean of 6 shifts", "several together"]
    shown = {("mild", "images (default)"): "mild augmentation", ("strong", "views (now)"): "strong augmentation"}
    series = {
        shown[row[1], row[2]]: [point(numbers_in(row[header.index(one)])[0]) for one in columns]
        for row in body
        if row[0] == "0, portfolio" and (row[1], row[2]) in shown
    }
    return Rows(columns, dict(series))


CHARTS = [
    Chart(
        "how-good",
        "AUC beside a plain MONAI script",
        "the script at its best epoch",
        by_column(
            {
                "portfolio: AUC, log-loss": "portfolio",
                "plain MONAI script, stopped by its validation cases": "script, stopped",
                "the script at its best epoch": "script, best epoch",
            }
        ),
    ),
    Chart(
        "how-robust", "AUC on COVID-CT, fold 0, under planted shifts of the scanner", "mean of 6 shifts", by_training
    ),
    Chart(
        "how-fast",
        "time to read and prepare a head, ours = 1",
        "time, ours = 1",
        by_column({"time, ours = 1": "time of one core"}),
        from_zero=True,
    ),
    Chart(
        "how-honest",
        "intervals that hold the released model's metric, % (lines: lowest to highest kind of cohort)",
        "60, .75",
        coverage,
        mark=95,
    ),
    Chart(
        "hand-over",
        "largest difference of a probability from predict's",
        "demo, 79 scans of two sites",
        by_column({"demo, 79 scans of two sites": "demo", "COVID-CT, 49 images": "COVID-CT"}),
        log=True,
    ),
]


def as_svg(chart: Chart, rows: Rows) -> str:
    """Draw rows of dots with lines on one scale, readable on any background."""

    def shown(value: Value | None) -> bool:
        return value is not None and (value[0] > 0 or not chart.log)

    kept = [number for number in range(len(rows.labels)) if any(shown(one[number]) for one in rows.series.values())]
    values = [end for one in rows.series.values() for number in kept if (value := one[number]) for end in value]
    scale = Scale(*limits_of([*values, *([0.0] if chart.from_zero else [])], chart.log), log=chart.log)
    height = TOP + ROW * len(kept) + AXIS
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13" fill="{INK}" role="img" aria-label="{escape(chart.title)}">',
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        f'<text x="16" y="22" font-weight="bold">{escape(chart.title)}</text>',
        *legend(list(rows.series)),
        *axis(scale, TOP, TOP + ROW * len(kept)),
    ]
    if chart.mark is not None:
        x = scale.along(chart.mark)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{TOP + ROW * len(kept)}" stroke="{INK}"/>')
    for place, number in enumerate(kept):
        middle = TOP + ROW * (place + 0.5)
        label = rows.labels[number]
        short = label if len(label) <= 34 else label[:33].rstrip() + "…"
        parts.append(f'<text x="{LEFT - 12}" y="{middle + 4}" text-anchor="end">{escape(short)}</text>')
        for colour, one in zip(COLOURS, rows.series.values(), strict=False):
            if value := one[number]:
                parts += dot(scale, value, middle, colour)
    return "\n".join([*parts, "</svg>\n"])


@dataclass(frozen=True)
class Scale:
    """Places along the horizontal axis, in pixels."""

    low: float
    high: float
    log: bool

    def along(self, value: float) -> float:
        """Place a value."""
        low, high, at = (math.log10(max(one, self.low)) if self.log else one for one in (self.low, self.high, value))
        return round(LEFT + (at - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def ticks(self) -> list[float]:
        """List round values, at most nine."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = next(one for one in (0.05, 0.1, 0.2, 0.5, 1, 5, 10, 20) if (self.high - self.low) / one <= 8)
        return [round(number * step, 4) for number in range(math.ceil(self.low / step), int(self.high / step) + 1)]


def limits_of(values: Sequence[float], log: bool) -> tuple[float, float]:
    if log:
        return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))
    room = 0.06 * (max(values) - min(values))
    return min(values) - room, max(values) + room


def legend(names: Sequence[str]) -> list[str]:
    parts, x = [], 22.0
    for colour, name in zip(COLOURS, names, strict=False):
        parts.append(f'<circle cx="{x}" cy="42" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 10}" y="46">{escape(name)}</text>')
        x += 34 + 7.2 * len(name)
    return parts


def axis(scale: Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for value in scale.ticks():
        x = scale.along(value)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" stroke="{FAINT}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 20}" text-anchor="middle">{value:g}</text>')
    return parts


def dot(scale: Scale, value: Value, y: float, colour: str) -> list[str]:
    middle, low, high = map(scale.along, value)
    line = f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3" opacity="0.5"/>'
    return [*([line] if high > low else []), f'<circle cx="{middle}" cy="{y}" r="6" fill="{colour}" opacity="0.85"/>']


if __name__ == "__main__":
    main()
