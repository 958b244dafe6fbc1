"""How well a model in use ranks and is calibrated, one stretch of time after the other."""

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
LEAST = 10  # events, and others, below which a window has no metrics


def windows(
    confidence: Floats, events: NDArray[np.bool_], patients: NDArray[np.str_], size: int, seed: int
) -> pd.DataFrame:
    """Evaluate windows of `size` cases, the last of which takes what is left over, with intervals by patient.

    Parameters
    ----------
    confidence : (n,)
        Prediction probabilities, in the order of time.
    events : (n,)
    patients : (n,) str
    size : int
        Cases of a window, above 0.
    seed : int

    Returns
    -------
    pandas.DataFrame
        A row each: from, to (cases, the first is 1), n, events; auc, observed_expected, calibration_intercept,
        calibration_slope, each with _lower and _upper. NaN where there are fewer than `LEAST` events or others.
    """
    rows = []
    for start, stop in spans(len(confidence), size):
        part = slice(start, stop)
        row = {"from": start + 1, "to": stop, "n": stop - start, "events": int(events[part].sum())}
        rows.append(row | metrics(confidence[part], events[part], patients[part], seed))
    return pd.DataFrame(rows)


def spans(n: int, size: int) -> Sequence[tuple[int, int]]:
    """Cut n cases into windows; a rest that is smaller than half a window joins the one before it."""
    starts = list(range(0, max(n - size // 2 + 1, 1), size))
    return list(zip(starts, [*starts[1:], n], strict=True))


def metrics(
    confidence: Floats, events: NDArray[np.bool_], patients: NDArray[np.str_], seed: int
) -> dict[str, float | None]:
    """Estimate the metrics of one window."""
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
