"""Evaluate discrimination and calibration of a model in use, window after window."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import cluster_weights, estimate
from pipeline.metrics.calibration import observed_expected
from pipeline.metrics.discrimination import roc_auc
from pipeline.metrics.levels import level_for
from pipeline.metrics.likelihood import intercept_estimate, slope_estimate
from pipeline.metrics.shares import auc_estimate
from pipeline.metrics.summary import in_columns, limits_of

Floats = NDArray[np.float64]

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
