"""Write the page on a model in use: one file, no script, no network."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import log
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.stages.report.blocks import Row
from pipeline.stages.report.glossary import TERMS, explain
from pipeline.stages.report.numbers import metric_of
from pipeline.stages.report.page import HERE, templates
from pipeline.stages.report.plots import Axes, Bar, Line, chart

METRICS = {  # by column of a table of windows
    "auc": "AUC",
    "c": "Harrell's C",
    "observed_expected": "O:E",
    "calibration_intercept": "intercept",
    "calibration_slope": "calibration slope",
    "mae": "mean absolute error",
    "bias": "bias",
    "coverage": "coverage",
}
IDEAL = {"observed_expected": 1.0, "calibration_intercept": 0.0, "calibration_slope": 1.0, "bias": 0.0}
FLOOR = -3.0  # smallest power of ten that is drawn
MOST_POINTS = 400  # points of a curve, at most


def write_monitoring(charts: Sequence[Row], windows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """Fill page.html; names of classes are escaped.

    Parameters
    ----------
    charts : sequence of mapping
        name, n, largest, limit, alarm, before_change, words, significant_labels; log_wealth (n,), natural logarithms;
        labels, a mapping for each label over which the wealth is averaged: name, largest, limit, significant.
    windows : sequence of mapping
        Columns of `monitor.windows.windows`; label, "" if there is only one question; and from_date and to_date if
        known. The windows of a label are consecutive.
    facts : mapping
        scans, patients, unreadable, labelled, developed_on, order, false_alarms, several, and `of`, what is predicted.
    """
    return (
        templates(Path(__file__).parent)
        .get_template("page.html")
        .render(
            style=Markup((HERE / "page.css").read_text()),  # our own file
            charts=[dict(one) | {"svg": evidence(one)} for one in charts],
            alarms=[one for one in charts if one["alarm"]],
            labels=[label_section(label, list(rows)) for label, rows in groupby(windows, label_of)],
            metric_names={name: in_words(METRICS[name]) for name in (metrics_in(windows[0]) if windows else ())},
            facts=facts,
        )
    )


def metrics_in(row: Row) -> list[str]:
    """Name the metrics of a window."""
    return [name for name in METRICS if name in row]


def in_words(metric: str) -> str:
    """Write the name of a metric, with its explanation if the glossary has one."""
    return explain(metric) if metric in TERMS else metric


def label_of(row: Row) -> str:
    """Name the label of a window; "" if there is only one question."""
    return str(row.get("label", ""))


def label_section(label: str, windows: Sequence[Row]) -> dict[str, Any]:
    """Collect the windows of a label with their metrics, and a curve of each metric if there are several windows."""
    return {
        "name": label,
        "windows": [
            dict(row) | {"metrics": {name: metric_of(row, name) for name in metrics_in(row)}} for row in windows
        ],
        "curves": [over_time(windows, name) for name in metrics_in(windows[0])] if len(windows) > 1 else [],
    }


def evidence(one: Row) -> Markup:
    """Draw the wealth after each patient, in powers of ten, and the limit of the alarm."""
    powers = [max(value / log(10), FLOOR) for value in one["log_wealth"]]
    if not powers:
        return Markup("")
    limit, last = log(one["limit"], 10), float(len(powers))
    step = max(len(powers) // MOST_POINTS, 1)
    axes = Axes(
        "patient",
        "evidence, power of ten",
        x_range=(0.0, last),
        y_range=(min(-1.0, *powers), max(limit + 0.5, *powers)),
        x_whole=True,
    )
    points = [
        (0.0, 0.0),
        *((float(number), power) for number, power in enumerate(powers, start=1) if not number % step),
    ]
    lines = [Line("evidence", points, 1), Line("alarm", [(0.0, limit), (last, limit)], 2, dashed=True)]
    return chart(f"Evidence of a change of {one['name']}", axes, lines)


def over_time(windows: Sequence[Row], name: str) -> dict[str, Any]:
    """Draw a metric of each window with its interval, and the ideal value."""
    known = [row for row in windows if row[name] is not None]
    middles = [(row["from"] + row["to"]) / 2 for row in known]
    ends = (float(windows[0]["from"]), float(windows[-1]["to"]))
    bars = [
        Bar(x, row[f"{name}_lower"], row[f"{name}_upper"], 1)
        for x, row in zip(middles, known, strict=True)
        if row[f"{name}_lower"] is not None
    ]
    seen = [row[f"{name}{end}"] for row in known for end in ("", "_lower", "_upper") if row[f"{name}{end}"] is not None]
    ideal = [IDEAL[name]] if name in IDEAL else []
    low, high = min([*seen, *ideal], default=0.0), max([*seen, *ideal], default=1.0)
    low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
    lines = [Line("", [(x, row[name]) for x, row in zip(middles, known, strict=True)], 1, marks=True)]
    lines += [Line("", [(ends[0], value), (ends[1], value)], 5, dashed=True) for value in ideal]
    axes = Axes("labelled scan", METRICS[name], x_range=ends, y_range=(low, high), x_whole=True, legend=False)
    of = f" of {label_of(windows[0])}" if label_of(windows[0]) else ""
    return {"name": name, "svg": chart(f"{METRICS[name]}{of} over time", axes, lines, bars=bars)}
