"""Monitor a model in use: test for changes of patients and of calibration, and print or draw the evidence."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.bundle.manifest import MANIFEST, BrokenBundle, sha256_of
from pipeline.bundle.opening import Opened, open_bundle, reference_in
from pipeline.bundle.zipped import unpacked
from pipeline.commands.monitor import classes, numbers, times
from pipeline.commands.monitor.evidence_chart import FALSE_ALARMS, Chart
from pipeline.commands.monitor.ledger_tables import as_tables
from pipeline.commands.monitor.page import metrics_in, write_monitoring
from pipeline.commands.monitor.scans import Monitored, read_monitored, read_monitored_numbers, read_monitored_times
from pipeline.errors import CheckFailed, UserError
from pipeline.metrics.wording import metric_in_words
from pipeline.stages.report.numbers import metric_of

Config = dict[str, Any]
Charts = list[tuple[Chart, pd.DataFrame]]


def run(arguments: argparse.Namespace) -> None:
    """Print the charts and the metrics of each window, and write them to --out.

    Raises
    ------
    UserError
        If the bundle or a table cannot be used.
    CheckFailed
        If a chart raised an alarm.
    """
    try:
        with unpacked(Path(arguments.bundle), arguments.max_size) as folder:
            bundle = open_bundle(folder)
            reference = reference_in(folder)
            digest = sha256_of(folder / MANIFEST)
    except BrokenBundle as error:
        raise UserError(str(error)) from error
    if arguments.window < 1:
        raise UserError(f"--window is {arguments.window}; choose a number of labelled scans from 1 on")
    with as_tables(Path(arguments.results), arguments.labels, digest) as (results, labels):
        monitored, charts, table = evaluated(bundle, reference, results, labels, size=arguments.window)
    print_monitoring(monitored, charts, table, reference)
    if arguments.out:
        page = write_monitoring(
            [chart_values(chart, scans) for chart, scans in charts],
            table.astype(object).where(table.notna(), None).to_dict("records"),
            facts_of(monitored, reference) | {"of": bundle.told or ", ".join(bundle.classes)},
        )
        Path(arguments.out).write_text(page)
    if alarms := [chart.name + of_labels(chart) for chart, _ in charts if chart.alarm]:
        raise CheckFailed(f"alarm: {', '.join(alarms)}; investigate before using the model further")


def evaluated(
    bundle: Opened, reference: Config, results: Path, labels: str | None, *, size: int
) -> tuple[Monitored, Charts, pd.DataFrame]:
    """Read the tables, and build the charts and the metrics of each window, as what the model predicts asks for."""
    if bundle.risks:
        monitored = read_monitored_times(results, labels)
        return monitored, times.charts_of(monitored, reference), times.windows_of(monitored, size, reference)
    if bundle.unit:
        monitored = read_monitored_numbers(results, labels)
        return monitored, numbers.charts_of(monitored, reference), numbers.windows_of(monitored, size)
    monitored = read_monitored(results, labels, bundle.classes, bundle.multilabel)
    return monitored, classes.charts_of(monitored, reference), classes.windows_of(monitored, size)


def facts_of(monitored: Monitored, reference: Config) -> Config:
    """Collect the numbers of scans and patients, and what the page says about them."""
    order = "by date" if monitored.dated else "as in the table (no dates given)"
    return {
        "scans": len(monitored.scans),
        "patients": len(monitored.patients),
        "unreadable": int(monitored.scans[monitored.classes[0]].isna().sum()),
        "labelled": len(monitored.labelled),
        "developed_on": reference["patients"],
        "order": order,
        "false_alarms": FALSE_ALARMS,
        "several": monitored.several,
    }


def chart_values(chart: Chart, scans: pd.DataFrame) -> Config:
    """Return a chart as plain values."""
    return {
        "name": chart.name,
        "n": len(chart.log_wealth),
        "largest": chart.largest,
        "limit": chart.limit,
        "alarm": chart.alarm,
        "before_change": chart.before_change,
        "words": describe(chart, scans),
        "significant_labels": chart.significant_labels,
        "log_wealth": chart.log_wealth.tolist(),
        "labels": [
            {"name": one.name, "largest": one.largest, "limit": one.limit, "significant": one.alarm is not None}
            for one in chart.label_charts
        ],
    }


def describe(chart: Chart, scans: pd.DataFrame) -> str:
    """Describe the alarm of a chart and the estimated start of the change."""
    if not len(chart.log_wealth):
        return "no data"
    if chart.alarm is None or chart.before_change is None:
        return "no alarm"
    at, began = when(scans, chart.alarm), when(scans, chart.before_change + 1)
    label = of_labels(chart) or (f", mainly of {chart.leading_label}," if chart.leading_label else "")
    return (
        f"ALARM{label} at patient {chart.alarm}{at}; the change began at about patient {chart.before_change + 1}{began}"
    )


def of_labels(chart: Chart) -> str:
    """Name the labels whose evidence alone is sufficient."""
    return f" of {', '.join(chart.significant_labels)}" if chart.significant_labels else ""


def when(scans: pd.DataFrame, number: int) -> str:
    """Format the date of a patient, if known."""
    return f" ({scans['date'].iloc[number - 1].date()})" if "date" in scans else ""


def print_monitoring(monitored: Monitored, charts: Charts, table: pd.DataFrame, reference: Config) -> None:
    """Print the numbers of scans, the charts and the metrics of each window."""
    facts = facts_of(monitored, reference)
    print(
        f"{facts['scans']} scans of {facts['patients']} patients, {facts['unreadable']} unreadable, "
        f"{facts['labelled']} with labels; ordered {facts['order']}"
    )
    print(
        f"compared with {reference['patients']} development patients; alarm at evidence {charts[0][0].limit:.0f}; "
        f"probability of any false alarm, ever: at most {FALSE_ALARMS:.0%}"
    )
    for chart, scans in charts:
        print(f"  {chart.name:<34} largest evidence {chart.largest:>9.3g}   {describe(chart, scans)}")
    for row in table.to_dict("records"):
        metrics = ", ".join(f"{name} {metric_in_words(metric_of(row, name))}" for name in metrics_in(row))
        of = f"{row['label']}: " if row.get("label") else ""
        events = f"{row['events']} events; " if "events" in row else ""
        print(f"  {of}labelled scans {row['from']} to {row['to']}: {events}{metrics}")
