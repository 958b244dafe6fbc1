"""Monitor predicted hazards: their drift, and observed beside expected events."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from pipeline.commands.monitor.evidence_chart import Chart, limit_for
from pipeline.commands.monitor.exchangeability import scan_tests
from pipeline.commands.monitor.scans import Monitored
from pipeline.commands.monitor.windows import windows_of_events

Floats = NDArray[np.float64]

EVENTS = "events"  # the chart of observed and expected events
CHARTS = 4  # once all times are known: log hazard, OOD score, unreadable scans, events
RATIOS = (0.5, 1.0, 2.0)  # of the true hazard to the predicted one, on which the test of events bets


def charts_of(monitored: Monitored, reference: Mapping[str, Any]) -> list[tuple[Chart, pd.DataFrame]]:
    """Build the chart of each test, with the scans that it follows."""
    tests = scan_tests(monitored, reference, "")
    labelled = monitored.labelled.drop_duplicates("patient")
    if len(labelled):
        tests[EVENTS] = (events_wealth(*events_of(labelled, monitored.classes[0], reference)), labelled)
    return [(Chart(name, log, limit_for(CHARTS), of_now=name == EVENTS), scans) for name, (log, scans) in tests.items()]


def events_wealth(observed: Floats, expected: Floats) -> Floats:
    """Test whether patients have as many events as their hazards say: logarithm of the wealth (n,).

    Only the last value tells whether there is an alarm now: with longer follow-up the factor of a patient changes, and
    the sums over all patients are what forms a martingale in calendar time. With the true hazard, observed less
    expected events are a martingale of the counting process, whatever the independent censoring, so that
    r^N exp(-(r - 1) H) has mean 1 for each ratio r (Andersen, Borgan, Gill, Keiding 1993, "Statistical models based on
    counting processes", section II.7).

    Parameters
    ----------
    observed : (n,)
        1 for an event, else 0.
    expected : (n,)
        Cumulative hazard of each patient at the observed time.
    """
    ratios = np.array(RATIOS)
    gained = np.cumsum(np.log(ratios) * observed[:, None] - (ratios - 1) * expected[:, None], axis=0)
    return np.asarray(logsumexp(gained, axis=1) - np.log(len(ratios)))


def events_of(scans: pd.DataFrame, name: str, reference: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Count observed and expected events (n,) up to the last time that development patients tell about."""
    times, last = scans["label"].to_numpy(float), float(reference["hazard"]["times"][-1])
    hazard = np.interp(times, [0.0, *reference["hazard"]["times"]], [0.0, *reference["hazard"]["values"]])
    observed = scans["event"].to_numpy(bool) & (times <= last)
    return observed.astype(float), hazard * np.exp(scans[name].to_numpy(float))


def windows_of(monitored: Monitored, size: int, reference: Mapping[str, Any]) -> pd.DataFrame:
    """Compare observed and expected events, and rank times by hazards, in windows."""
    scans = monitored.labelled
    if scans.empty:
        return pd.DataFrame()
    observed, expected = events_of(scans, monitored.classes[0], reference)
    known = scans[["patient", "label", "event"]].assign(
        log_hazard=scans[monitored.classes[0]], observed=observed, expected=expected
    )
    return windows_of_events(known, size=size)
