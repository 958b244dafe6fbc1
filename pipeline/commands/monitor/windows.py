"""Evaluate discrimination and calibration of a model in use, window after window."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import cluster_weights, estimate_all
from pipeline.metrics.calibration import calibration_in_the_large, calibration_slope, observed_expected
from pipeline.metrics.discrimination import roc_auc

Floats = NDArray[np.float64]

REPLICATES = 1000
CONFIDENCE = 0.95
LEAST = 10  # minimum of events, and of non-events, for the metrics of a window


def windows(
    confidence: Floats, events: NDArray[np.bool_], patients: NDArray[np.str_], *, size: int, seed: int
) -> pd.DataFrame:
    """Evaluate windows of `size` cases, with bootstrap intervals over patients.

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
    named = {
        "auc": lambda weights: roc_auc(confidence, events, weights),
        "observed_expected": lambda weights: observed_expected(confidence, events, weights),
        "calibration_intercept": lambda weights: calibration_in_the_large(confidence, events, weights),
        "calibration_slope": lambda weights: calibration_slope(confidence, events, weights),
    }
    columns = [f"{name}{end}" for name in named for end in ("", "_lower", "_upper")]
    if min(events.sum(), (~events).sum()) < LEAST:
        return dict.fromkeys(columns)
    found = estimate_all(named, cluster_weights(patients, REPLICATES, seed), CONFIDENCE).values()
    numbers = [number for one in found for number in (one.value, one.lower, one.upper)]
    return dict(zip(columns, numbers, strict=True))
