"""Monitor a model in use: test for changes of patients and of calibration, and print or draw the evidence."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.bundle.manifest import MANIFEST, BrokenBundle, sha256_of
from pipeline.bundle.monitoring_reference import losses_of
from pipeline.bundle.opening import open_bundle, reference_in
from pipeline.bundle.zipped import unpacked
from pipeline.commands.monitor.evidence_chart import FALSE_ALARMS, Chart, limit_for
from pipeline.commands.monitor.exchangeability import drift
from pipeline.commands.monitor.ledger_tables import as_tables
from pipeline.commands.monitor.miscalibration import carried_forward, mean_wealth, miscalibration
from pipeline.commands.monitor.page import METRICS, write_monitoring
from pipeline.commands.monitor.scans import Monitored, read_monitored
from pipeline.commands.monitor.windows import windows
from pipeline.commands.numbers import refuse_number
from pipeline.errors import CheckFailed, UserError
from pipeline.metrics.questions import Question
from pipeline.metrics.wording import metric_in_words
from pipeline.seeds import seed_for
from pipeline.stages.report.numbers import metric_of

Config = dict[str, Any]
Floats = NDArray[np.float64]
Tests = dict[str, tuple[Floats, pd.DataFrame]]


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
            refuse_number(bundle, "monitor")
            reference = reference_in(folder)
            digest = sha256_of(folder / MANIFEST)
    except BrokenBundle as error:
        raise UserError(str(error)) from error
    if arguments.window < 1:
        raise UserError(f"--window is {arguments.window}; choose a number of labelled scans from 1 on")
    with as_tables(Path(arguments.results), arguments.labels, digest) as (results, labels):
        monitored = read_monitored(results, labels, bundle.classes, bundle.multilabel)
    charts = charts_of(monitored, reference)
    table = windows_of(monitored, arguments.window)
    print_monitoring(monitored, charts, table, reference)
    if arguments.out:
        page = write_monitoring(
            [chart_values(chart, scans) for chart, scans in charts],
            table.astype(object).where(table.notna(), None).to_dict("records"),
            facts_of(monitored, reference),
        )
        Path(arguments.out).write_text(page)
    if alarms := [chart.name + of_labels(chart) for chart, _ in charts if chart.alarm]:
        raise CheckFailed(f"alarm: {', '.join(alarms)}; investigate before using the model further")


def charts_of(monitored: Monitored, reference: Config) -> list[tuple[Chart, pd.DataFrame]]:
    """Build the chart of each test, with the scans that it follows."""
    tests = scan_tests(monitored, reference) | loss_tests(monitored, reference)
    limit = limit_for(number_of_charts(monitored, reference))
    charts = [(Chart(name, log, limit), scans) for name, (log, scans) in tests.items()]
    labelled = monitored.labelled.drop_duplicates("patient")
    if len(labelled):
        parts = calibration_wealth(monitored, labelled)
        by_label = parts if monitored.several else {}
        charts.append((Chart("calibration", mean_wealth(list(parts.values())), limit, by_label), labelled))
    return charts


def number_of_charts(monitored: Monitored, reference: Config) -> int:
    """Count the charts once all labels are known, so that the limit does not depend on the labels known so far."""
    of_scans, of_calibration = len(reference["predictions"]) + 2, 1  # with the OOD score and the unreadable scans
    return of_scans + (len(reference["log_loss"]) if monitored.several else 1) + of_calibration


def scan_tests(monitored: Monitored, reference: Config) -> Tests:
    """Test whether predictions, OOD scores and the share of readable scans are as in development."""
    everyone, read = monitored.patients, monitored.read
    found: Tests = {
        f"probability of {name}": (drift_wealth(name, np.array(values), read[name].to_numpy(float)), read)
        for name, values in reference["predictions"].items()
    }
    if "ood_score" in monitored.scans:
        known, now = np.array(reference["ood_score"]), read["ood_score"].to_numpy(float)
        found["out-of-distribution score"] = (drift_wealth("ood_score", known, now, only_higher=True), read)
    unread = np.repeat([0.0, 1.0], [reference["scans"] - reference["refused"], reference["refused"]])
    now = everyone[monitored.classes[0]].isna().to_numpy(float)
    found["unreadable scans"] = (drift_wealth("refused", unread, now, only_higher=True), everyone)
    return found


def loss_tests(monitored: Monitored, reference: Config) -> Tests:
    """Test for each label whether the log-loss is higher than in development.

    The ranks of each label form a separate martingale, so that these tests cannot be averaged as those of calibration.
    """
    labelled = monitored.labelled.drop_duplicates("patient")
    if labelled.empty:
        return {}
    known = reference["log_loss"] if monitored.several else {"": reference["log_loss"]}
    probabilities, labels = monitored.predictions(labelled)
    losses = losses_of(probabilities, labels, monitored.classes)
    return {
        f"loss of {name}" if name else "loss": (
            drift_wealth(f"loss {name}".strip(), np.array(known[name]), loss, only_higher=True),
            labelled.iloc[rows],
        )
        for name, (loss, rows) in losses.items()
        if name in known  # a label that is known of no development case has no losses
    }


def calibration_wealth(monitored: Monitored, labelled: pd.DataFrame) -> dict[str, Floats]:
    """Test calibration: logarithm of the wealth (n,) after each patient, by question.

    The wealth of a label that is still unknown stays 1: redistributing it later would be invalid.
    """
    found = {name: np.zeros(len(labelled)) for name in (monitored.classes if monitored.several else [])}
    for question in monitored.questions(labelled):
        found[question.name] = carried_forward(
            miscalibration(question.prediction, question.events), question.rows, len(labelled)
        )
    return found


def drift_wealth(name: str, reference: Floats, values: Floats, only_higher: bool = False) -> Floats:
    """Test whether a value changed. The seed breaks ties in the same way each time that the command runs."""
    return drift(reference, values, seed_for(0, "monitor", name), only_higher)


def windows_of(monitored: Monitored, size: int) -> pd.DataFrame:
    """Evaluate the labelled scans in windows, for each question on the scans whose answer is known."""
    scans = monitored.labelled
    questions = monitored.questions(scans) if len(scans) else []
    tables = [windows_on(question, scans.iloc[question.rows], monitored, size) for question in questions]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def windows_on(question: Question, scans: pd.DataFrame, monitored: Monitored, size: int) -> pd.DataFrame:
    """Evaluate one question on its scans, in windows."""
    patients = scans["patient"].to_numpy(str)
    seed = seed_for(0, "monitor", "windows")
    table = windows(question.prediction, question.events, patients, size=size, seed=seed)
    for name in ("from", "to") if monitored.dated else ():
        table[f"{name}_date"] = scans["date"].dt.date.astype(str).to_numpy()[table[name] - 1]
    return table.assign(label=question.name if monitored.several else "")


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
        "classes": monitored.classes,
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


def print_monitoring(
    monitored: Monitored, charts: list[tuple[Chart, pd.DataFrame]], table: pd.DataFrame, reference: Config
) -> None:
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
        metrics = ", ".join(f"{name} {metric_in_words(metric_of(row, name))}" for name in METRICS)
        of = f"{row['label']}: " if row["label"] else ""
        print(f"  {of}labelled scans {row['from']} to {row['to']}: {row['events']} events; {metrics}")
