"""What the page shows of the features: where the cases lie before and after adaptation, and how far apart sites are."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from pipeline.metrics.wording import interval_in_words
from pipeline.stages.report.blocks import Row
from pipeline.stages.report.numbers import metric_of
from pipeline.stages.report.plots import RIGHT, WIDTH, Axes, Point, chart, nice_range

ARMS = {"imagenet": "Before, ImageNet's encoder", "adapted": "After adaptation"}
MEASURES = ("mmd", "a_distance")
GROUPED = {"site": "site", "label": "class"}
MOST = 6  # groups that are told apart; the smaller ones share the last mark
OTHERS, UNKNOWN = "others", "not labelled"
HEIGHT = 300
# Marks differ in shape, too, so that no one needs the colours; about the point they belong to.
SHAPES = (
    "m-3.2,0a3.2,3.2 0 1,0 6.4,0a3.2,3.2 0 1,0 -6.4,0",
    "m-2.9,-2.9h5.8v5.8h-5.8z",
    "m0,-3.9l3.6,6.4h-7.2z",
    "m0,-4.2l3.6,4.2l-3.6,4.2l-3.6,-4.2z",
    "m0,3.9l3.6,-6.4h-7.2z",
    "m-1.2,-3.6h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4v-2.4h2.4z",
)


def embedding_section(places: Sequence[Row], distances: Sequence[Row]) -> dict[str, Any] | None:
    """Collect what embedding.html shows; None where the stage `evidence` wrote nothing of it.

    Parameters
    ----------
    places : sequence of mapping
        case, site, label, side, arm, x, y, explained_x, explained_y.
    distances : sequence of mapping
        site, measure, arm, n, patients, value, lower, upper.
    """
    if not places:
        return None
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in places)]
    parts = {arm: [row for row in places if row["arm"] == arm] for arm in arms}
    return {
        "both": len(arms) == 2,
        "views": [_view(column, parts) for column in GROUPED if column != "site" or any(row["site"] for row in places)],
        "explained": [
            {"arm": ARMS[arm], "x": rows[0]["explained_x"], "y": rows[0]["explained_y"]} for arm, rows in parts.items()
        ],
        "n": len(parts[arms[0]]),
        "cases": [_case(rows) for rows in zip(*parts.values(), strict=True)],
        "sites": [_site(site, distances, arms) for site in dict.fromkeys(row["site"] for row in distances)],
        "moved": moved_in_words([row for row in distances if (row["measure"], row["arm"]) == ("mmd", "change")]),
    }


def moved_in_words(changes: Sequence[Row]) -> str:
    """Say which sites adaptation brought closer to the others by MMD², and which it moved away; empty without any.

    Parameters
    ----------
    changes : sequence of mapping
        site, value, lower and upper of the change of each site; below 0 the site moved closer.
    """
    changes = [row for row in changes if row["lower"] is not None]
    moved = {
        "brought {} closer to the others": [row for row in changes if row["upper"] < 0],
        "moved {} further away": [row for row in changes if row["lower"] > 0],
        "did not clearly move {}": [row for row in changes if row["lower"] <= 0 <= row["upper"]],
    }
    joined = {words: (" or " if "not" in words else " and ").join(map(_change, rows)) for words, rows in moved.items()}
    said = [words.format(sites) for words, sites in joined.items() if sites]
    told = f"By MMD², adaptation {'; it '.join(said)}." if said else ""
    return (
        told if any(row["upper"] < 0 for row in changes) or not told else f"{told} It did not draw the sites together."
    )


def _change(row: Row) -> str:
    limits = interval_in_words(row["lower"], row["upper"], style="+.2f")
    return f"{row['site'] or '(none)'} ({row['value']:+.2f}, {limits})"


def _view(column: str, parts: dict[str, list[Row]]) -> dict[str, Any]:
    names = [_name(row, column) for row in next(iter(parts.values()))]
    counts = Counter(names)
    ordered = sorted(counts, key=lambda name: (name == UNKNOWN, -counts[name], name))
    shown = ordered if len(ordered) <= MOST else [*ordered[: MOST - 1], OTHERS]
    number = {name: min(place, MOST - 1) for place, name in enumerate(ordered)}
    total = Counter(shown[number[name]] for name in names)
    plots = [
        {
            "svg": _scatter(f"Cases by {GROUPED[column]}, {ARMS[arm]}", rows, [number[name] for name in names]),
            "caption": ARMS[arm],
        }
        for arm, rows in parts.items()
    ]
    key = [{"name": name, "n": total[name], "mark": _swatch(place)} for place, name in enumerate(shown)]
    return {"by": GROUPED[column], "key": key, "plots": plots}


def _name(row: Row, column: str) -> str:
    return str(row[column] or (UNKNOWN if column == "label" else "(none)"))


def _scatter(title: str, rows: Sequence[Row], numbers: Sequence[int]) -> Markup:
    axes = Axes(
        f"1st component, {row_share(rows, 'x')} of the variance",
        f"2nd component, {row_share(rows, 'y')}",
        nice_range([row["x"] for row in rows]),
        nice_range([row["y"] for row in rows]),
        height=HEIGHT,
        legend=False,
    )
    marks = [_mark(_place((row["x"], row["y"]), axes), number) for row, number in zip(rows, numbers, strict=True)]
    svg = str(chart(title, axes, []))
    return Markup(svg.replace("</svg>", f"{''.join(marks)}</svg>"))  # made of numbers; the title is escaped


def row_share(rows: Sequence[Row], axis: str) -> str:
    """Write the share of the variance along an axis."""
    return f"{100 * rows[0][f'explained_{axis}']:.0f} %"


def _place(point: Point, axes: Axes) -> Point:
    (x_low, x_high), (y_low, y_high) = axes.x_range, axes.y_range
    x = axes.left + (point[0] - x_low) / (x_high - x_low) * (WIDTH - axes.left - RIGHT)
    y = axes.bottom - (point[1] - y_low) / (y_high - y_low) * (axes.bottom - axes.top)
    return round(x, 1), round(y, 1)


def _mark(place: Point, number: int) -> str:
    return f'<path class="dot place c{number + 1}" d="M{place[0]},{place[1]}{SHAPES[number]}"/>'


def _swatch(number: int) -> Markup:
    return Markup(f'<svg viewBox="0 0 12 12" class="swatch" aria-hidden="true">{_mark((6, 6), number)}</svg>')


def _case(rows: Sequence[Row]) -> dict[str, Any]:
    """Give one case's places, before and after."""
    known = {name: rows[0][name] for name in ("case", "site", "label", "side")}
    return known | {"places": [coordinate for row in rows for coordinate in (row["x"], row["y"])]}


def _site(site: str, distances: Sequence[Row], arms: Sequence[str]) -> dict[str, Any]:
    own = [row for row in distances if row["site"] == site]
    found = {
        (row["measure"], row["arm"]): metric_of(
            {"d": row["value"], "d_lower": row["lower"], "d_upper": row["upper"]}, "d"
        )
        for row in own
    }
    columns = [*arms, *(["change"] if len(arms) == 2 else [])]
    metrics = {measure: [found.get((measure, arm)) for arm in columns] for measure in MEASURES}
    return {"site": site, "n": own[0]["n"], "patients": own[0]["patients"], "metrics": metrics}
