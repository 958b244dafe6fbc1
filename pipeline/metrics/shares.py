"""Intervals of shares, and of an AUC at its edge, where all replicates of a bootstrap agree."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from pipeline.metrics.bootstrap import Estimate, estimate_of, in_blocks
from pipeline.metrics.discrimination import Floats, ratio
from pipeline.metrics.levels import halved, quantile_of

Marks = NDArray[np.bool_]
Names = NDArray[np.str_]

EDGE = 1e-9


def wilson(events: float, n: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Compute Wilson's score interval (1927) of a proportion; the default z gives 95 %."""
    centre = (events + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(max(events * (n - events) / n, 0.0) + z * z / 4)
    return float(max(centre - half, 0)), float(min(centre + half, 1))


def largest_effect(patients: Names) -> float:
    """Compute the design effect if all cases of a patient are equal: sum m^2 / sum m, with m cases of each patient."""
    counts = np.unique(patients, return_counts=True)[1]
    return float((counts**2).sum() / counts.sum()) if len(counts) else 1.0


def share_estimate(values: Floats, n: float, confidence: float, effect: float = 1.0) -> Estimate:
    """Estimate a share, or a mean of shares, with Wilson's interval at its effective number of cases.

    That number is p (1 - p) / variance (Rao and Scott 1992, "A simple method for the analysis of clustered binary
    data"). At 0 and 1, where replicates have no variance, it is n / effect.

    Parameters
    ----------
    values : (1 + R,)
        The share on the sample and on its replicates.
    n : float
        Number of cases of which the share is taken.
    confidence : float
        See `levels.halved` for one with a factor.
    effect : float
        See `largest_effect`.
    """
    value = float(values[0])
    if not np.isfinite(value) or n <= 0:
        return Estimate(None, None, None)
    drawn = values[1:][np.isfinite(values[1:])]
    variance = float(drawn.var(ddof=1)) if len(drawn) > 1 else 0.0
    inside = EDGE < value < 1 - EDGE and variance > 0
    effective = value * (1 - value) / variance if inside else n / effect
    return Estimate(value, *wilson(value * effective, effective, quantile_of(halved(confidence))))


def share_of(
    marked: Floats | Marks, among: Floats | Marks, patients: Names, *, weights: Floats, confidence: float
) -> Estimate:
    """Estimate the share of marked cases (n,) among some cases (n,), see `share_estimate`."""
    counted = np.asarray(among, dtype=np.float64)
    values = in_blocks(lambda some: ratio(some @ (marked * counted), some @ counted), weights)
    return share_estimate(values, float(counted.sum()), confidence, largest_effect(patients[counted > 0]))


def auc_estimate(values: Floats, events: Marks, patients: Names, confidence: float) -> Estimate:
    """Estimate an AUC with its percentile interval, at 0 and 1 with that of `auc_limit`.

    Parameters
    ----------
    values : (1 + R,)
        The AUC on the sample and on its replicates.
    events : (n,) bool
        Of the rarest class, if it is a mean over classes.
    patients : (n,)
    confidence : float
    """
    found = estimate_of(values, confidence)
    if found.value is None or EDGE < found.value < 1 - EDGE:
        return found
    numbers = [float(len(patients[some]) / largest_effect(patients[some])) for some in (events, ~events)]
    limit = auc_limit(min(numbers), max(numbers), quantile_of(confidence))
    return Estimate(found.value, limit, 1.0) if found.value > 0.5 else Estimate(found.value, 0.0, 1 - limit)


def auc_limit(n_events: float, n_others: float, z: float) -> float:
    """Compute the lower limit of an AUC of 1.

    It is the AUC that lies z of its own standard errors below 1 (Newcombe 2006, "Confidence intervals for an effect
    size measure based on the Mann-Whitney statistic. Part 2", method 5).
    """
    more = (n_events + n_others) / 2 - 1

    def above(area: float) -> float:
        shape = 1 + more * ((1 - area) / (2 - area) + area / (1 + area))
        return (1 - area) - z * z * area * shape / (n_events * n_others)

    return float(brentq(above, 1e-9, 1 - 1e-9)) if n_events * n_others > 0 else 0.0
