"""Evaluate discrimination and calibration of a model in use, window after window."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import cluster_weights, estimate, estimate_all
from pipeline.metrics.calibration import observed_expected
from pipeline.metrics.discrimination import ratio, roc_auc
from pipeline.metrics.levels import level_for
from pipeline.metrics.likelihood import intercept_estimate, slope_estimate
from pipeline.metrics.regression.errors import bias, mae
from pipeline.metrics.shares import auc_estimate
from pipeline.metrics.summary import in_columns, limits_of
from pipeline.metrics.survival.discrimination import harrell_c
from pipeline.seeds import seed_for

Floats = NDArray[np.float64]
Metric = Callable[[Floats], Floats]  # weights (R, n) to values (R,)

REPLICATES = 1000
CONFIDENCE = 0.95
METRICS = ("auc", "observed_expected", "calibration_intercept", "calibration_slope")
LEAST = 10  # minimum of events, and of non-events, for the metrics of a window


def windows(
    confidence: Floats, events: NDArray[np.bool_], patients: NDArray[np.str_], *, size: int, seed: int
) -> pd.DataFrame:
    """Evaluate windows of `size` cases, with intervals over patients.

    Parameters
    ----------
    confidence : (n,)
        Predicted probabilities, in temporal order.
    events : (n,)
    patients : (n,) str
    size : int
        Cases of a window, 1 or more; see `spans` for the last window.
    seed : int

    Returns
    -------
    pandas.DataFrame
        A row for each window: from, to (the first case is 1), n, events; auc, observed_expected, calibration_intercept,
        calibration_slope, each with _lower and _upper. NaN if there are fewer than `LEAST` events or non-events.
    """
    rows = []
    for start, stop in spans(len(confidence), size):
        part = slice(start, stop)
        row = {"from": start + 1, "to": stop, "n": stop - start, "events": int(events[part].sum())}
        rows.append(row | metrics(confidence[part], events[part], patients[part], seed))
    return pd.DataFrame(rows)


def spans(n: int, size: int) -> Sequence[tuple[int, int]]:
    """Divide n cases into windows; a remainder of less than half a window joins the previous one."""
    starts = list(range(0, max(n - size // 2 + 1, 1), size))
    return list(zip(starts, [*starts[1:], n], strict=True))


def metrics(
    confidence: Floats, events: NDArray[np.bool_], patients: NDArray[np.str_], seed: int
) -> dict[str, float | None]:
    """Compute the metrics of one window with their intervals."""
    if min(events.sum(), (~events).sum()) < LEAST:
        return dict.fromkeys(limits_of(*METRICS))
    level, weights = level_for(CONFIDENCE, patients), cluster_weights(patients, REPLICATES, seed)
    found = {
        "auc": auc_estimate(roc_auc(confidence, events, weights), events, patients, level),
        "observed_expected": estimate(partial(observed_expected, confidence, events), weights, level),
        "calibration_intercept": intercept_estimate(confidence, events, patients, level),
        "calibration_slope": slope_estimate(confidence, events, patients, level),
    }
    return in_columns({name: vars(found[name]) for name in METRICS})


def windows_of_numbers(numbers: Floats, patients: NDArray[np.str_], *, size: int) -> pd.DataFrame:
    """Evaluate predicted numbers in windows of `size` cases, with intervals over patients.

    Parameters
    ----------
    numbers : (n, 4)
        True and predicted number, and the limits of its interval, in temporal order.
    patients : (n,) str
    size : int

    Returns
    -------
    pandas.DataFrame
        A row for each window: from, to, n; mae, bias, coverage, each with _lower and _upper. NaN for fewer than `LEAST`
        cases, and for the coverage without intervals.
    """
    rows = []
    for start, stop in spans(len(numbers), size):
        true, predicted, lower, upper = numbers[start:stop].T
        inside = np.where(np.isfinite(lower), (lower <= true) & (true <= upper), np.nan)
        metrics: dict[str, Metric] = {
            "mae": partial(mae, predicted, true),
            "bias": partial(bias, predicted, true),
            "coverage": partial(_share, inside, np.ones(len(inside))),
        }
        rows.append(_window(metrics, patients, start, stop) | {"n": stop - start})
    return pd.DataFrame(rows)


def windows_of_events(scans: pd.DataFrame, *, size: int) -> pd.DataFrame:
    """Evaluate predicted hazards in windows of `size` cases, with intervals over patients.

    Parameters
    ----------
    scans : pandas.DataFrame
        In temporal order: patient, label (the time), event, log_hazard, and observed and expected events.
    size : int

    Returns
    -------
    pandas.DataFrame
        A row for each window: from, to, n, events; c (Harrell's) and observed_expected, each with _lower and _upper;
        NaN for fewer than `LEAST` events.
    """
    rows, patients = [], scans["patient"].to_numpy(str)
    for start, stop in spans(len(scans), size):
        part = scans.iloc[start:stop]
        names = ("log_hazard", "label", "observed", "expected")
        hazard, times, observed, expected = (part[name].to_numpy(float) for name in names)
        events = part["event"].to_numpy(bool)
        metrics: dict[str, Metric] = {
            "c": partial(harrell_c, hazard, times, events),
            "observed_expected": partial(_share, observed, expected),
        }
        counted = {"n": stop - start, "events": int(events.sum())}
        rows.append(_window(metrics, patients, start, stop, counted=counted["events"]) | counted)
    return pd.DataFrame(rows)


def _share(above: Floats, below: Floats, weights: Floats) -> Floats:
    return ratio(weights @ above, weights @ below)


def _window(
    metrics: Mapping[str, Metric], patients: NDArray[np.str_], start: int, stop: int, *, counted: int | None = None
) -> dict[str, Any]:
    row = {"from": start + 1, "to": stop}
    if (stop - start if counted is None else counted) < LEAST:
        return row | dict.fromkeys(limits_of(*metrics))
    here = patients[start:stop]
    weights = cluster_weights(here, REPLICATES, seed_for(0, "monitor", "windows"))
    found = estimate_all(metrics, weights, level_for(CONFIDENCE, here))
    return row | in_columns({name: one.as_json() for name, one in found.items()})
