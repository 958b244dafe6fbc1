"""Monitor probabilities of classes: their drift, their loss and their calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.bundle.monitoring_reference import losses_of
from pipeline.commands.monitor.evidence_chart import Chart, limit_for
from pipeline.commands.monitor.exchangeability import Tests, drift_wealth, scan_tests
from pipeline.commands.monitor.miscalibration import carried_forward, mean_wealth, miscalibration
from pipeline.commands.monitor.scans import Monitored
from pipeline.commands.monitor.windows import windows
from pipeline.metrics.questions import Question
from pipeline.seeds import seed_for

Floats = NDArray[np.float64]


def charts_of(monitored: Monitored, reference: Mapping[str, Any]) -> list[tuple[Chart, pd.DataFrame]]:
    """Build the chart of each test, with the scans that it follows."""
    tests = scan_tests(monitored, reference, "probability of ") | loss_tests(monitored, reference)
    limit = limit_for(number_of_charts(monitored, reference))
    charts = [(Chart(name, log, limit), scans) for name, (log, scans) in tests.items()]
    labelled = monitored.labelled.drop_duplicates("patient")
    if len(labelled):
        parts = calibration_wealth(monitored, labelled)
        by_label = parts if monitored.several else {}
        charts.append((Chart("calibration", mean_wealth(list(parts.values())), limit, by_label), labelled))
    return charts


def number_of_charts(monitored: Monitored, reference: Mapping[str, Any]) -> int:
    """Count the charts once all labels are known, so that the limit does not depend on the labels known so far."""
    of_scans, of_calibration = len(reference["predictions"]) + 2, 1  # with the OOD score and the unreadable scans
    return of_scans + (len(reference["log_loss"]) if monitored.several else 1) + of_calibration


def loss_tests(monitored: Monitored, reference: Mapping[str, Any]) -> Tests:
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
