"""Monitor predicted numbers: their drift, their errors, and the size of the errors beside the intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.bundle.monitoring_reference import errors_of
from pipeline.bundle.numbers import LIMITS
from pipeline.commands.monitor.evidence_chart import Chart, limit_for
from pipeline.commands.monitor.exchangeability import drift_wealth, scan_tests
from pipeline.commands.monitor.scans import Monitored
from pipeline.commands.monitor.windows import windows_of_numbers

Floats = NDArray[np.float64]

CHARTS = 5  # once all true numbers are known: value, OOD score, unreadable scans, error, size of the error


def charts_of(monitored: Monitored, reference: Mapping[str, Any]) -> list[tuple[Chart, pd.DataFrame]]:
    """Build the chart of each test, with the scans that it follows.

    Values and errors are tested for being higher, lower, more or less dispersed than in development, sizes of errors
    for being larger only.
    """
    tests = scan_tests(monitored, reference, "")
    labelled = monitored.labelled.drop_duplicates("patient")
    if len(labelled):
        errors, sizes = errors_of(*columns_of(labelled, monitored.classes[0]))
        known = {name: np.array(reference[name]) for name in ("errors", "sizes")}
        tests["error"] = (drift_wealth("error", known["errors"], errors), labelled)
        tests["size of the error"] = (drift_wealth("size", known["sizes"], sizes, only_higher=True), labelled)
    return [(Chart(name, log, limit_for(CHARTS)), scans) for name, (log, scans) in tests.items()]


def windows_of(monitored: Monitored, size: int) -> pd.DataFrame:
    """Evaluate the scans whose true number is known in windows."""
    scans = monitored.labelled
    if scans.empty:
        return pd.DataFrame()
    numbers = np.stack(columns_of(scans, monitored.classes[0]), axis=1)
    return windows_of_numbers(numbers, scans["patient"].to_numpy(str), size=size)


def columns_of(scans: pd.DataFrame, name: str) -> tuple[Floats, ...]:
    """Return the true number, the predicted one and the limits of its interval, each (n,)."""
    return tuple(scans[column].to_numpy(float) for column in ("label", name, *LIMITS))
