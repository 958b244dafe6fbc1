"""Paired comparison of two classifiers on the same cases, and the difference that these cases can detect.

The absence of evidence is no evidence of equality: every comparison reports its `minimum_detectable_difference`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from pipeline.metrics.bootstrap import Estimate, estimate_of, in_blocks
from pipeline.metrics.levels import factor_of, quantile_of

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Names = NDArray[np.str_]
Metric = Callable[[Floats], Floats]  # weights (R, n) to values (R,)

NO_SPREAD = 1e-12


class AucComparison(NamedTuple):
    """Two AUCs on the same cases; NaN for a value that does not exist.

    Attributes
    ----------
    auc_a, auc_b : float
    difference : float
        a - b.
    se : float
        Standard error of the difference.
    z, p : float
        Two-sided test of the hypothesis that the difference is 0.
    """

    auc_a: float
    auc_b: float
    difference: float
    se: float
    z: float
    p: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference of metrics with its interval, standard error, and minimum detectable difference."""

    se: float | None
    minimum_detectable: float | None


def delong(scores_a: Floats, scores_b: Floats, events: Marks, clusters: Names | None = None) -> AucComparison:
    """Compare two AUCs on the same cases without resampling (DeLong, DeLong, Clarke-Pearson 1988).

    Parameters
    ----------
    scores_a, scores_b : (n,)
    events : (n,) bool
    clusters : (n,), optional
        The patient of each case; by default each case is its own patient. (Obuchowski 1997, "Nonparametric analysis of
        clustered ROC curve data", which equals DeLong's test if every cluster has one case.)

    Returns
    -------
    AucComparison
        z is 0 and p is 1 if the curves do not differ.
    """
    areas, covariance = auc_covariance(np.stack([scores_a, scores_b]), events, clusters)
    difference = float(areas[0] - areas[1])
    se = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0)))
    z = _z(difference, se)
    return AucComparison(
        float(areas[0]), float(areas[1]), difference=difference, se=se, z=z, p=float(2 * norm.sf(abs(z)))
    )


def auc_covariance(scores: Floats, events: Marks, clusters: Names | None = None) -> tuple[Floats, Floats]:
    """Compute AUCs (S,) of S score columns, and their covariance (S, S), by Obuchowski 1997, section 2.

    Placement values come from mid-ranks, in O(n log n) (Sun and Xu 2014, "Fast implementation of DeLong's algorithm").

    Parameters
    ----------
    scores : (S, n)
    events : (n,) bool
    clusters : (n,), optional

    Returns
    -------
    areas : (S,)
        NaN without events or without non-events.
    covariance : (S, S)
        NaN if fewer than two clusters have an event, or a non-event.
    """
    clusters = np.arange(len(events)).astype(str) if clusters is None else clusters
    n_events, n_others = int(events.sum()), int((~events).sum())
    if not n_events or not n_others:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    of_events, of_others = placements(scores, events)
    areas = of_events.mean(axis=1)
    with_event, with_other = len(set(clusters[events])), len(set(clusters[~events]))
    if with_event < 2 or with_other < 2:
        return areas, np.full((len(scores), len(scores)), np.nan)
    names, cluster = np.unique(clusters, return_inverse=True)
    above = _summed(of_events - areas[:, None], cluster[events], len(names)) / n_events
    below = _summed(of_others - areas[:, None], cluster[~events], len(names)) / n_others
    cross = above @ below.T * len(names) / (len(names) - 1)
    own = above @ above.T * with_event / (with_event - 1) + below @ below.T * with_other / (with_other - 1)
    return areas, own + cross + cross.T


def placements(scores: Floats, events: Marks) -> tuple[Floats, Floats]:
    """Compute for each event (S, m) the share of non-events below it, for each non-event the share of events above."""
    n_events, n_others = events.sum(), (~events).sum()
    everywhere = rankdata(scores, axis=1)
    among_events, among_others = rankdata(scores[:, events], axis=1), rankdata(scores[:, ~events], axis=1)
    return (everywhere[:, events] - among_events) / n_others, 1 - (everywhere[:, ~events] - among_others) / n_events


def minimum_detectable_difference(se: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Compute the true difference that a two-sided test of level alpha detects with this power.

    (z at 1 - alpha / 2 + z at power) times the standard error: 2.80 of them for 0.8 and 0.05 (Bloom 1995, "Minimum
    detectable effects").
    """
    return float(norm.ppf(1 - alpha / 2) + norm.ppf(power)) * se


def paired_difference(
    metric_a: Metric, metric_b: Metric, weights: Floats, confidence: float, *, power: float = 0.8, further: float = 0.0
) -> Difference:
    """Estimate the difference a - b of two metrics on the same replicates.

    Parameters
    ----------
    metric_a, metric_b : callable
        Map weights (R, n) to values (R,), for the same n cases.
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`.
    confidence : float
        Level of the interval; the minimum detectable difference is that of a test of level 1 - confidence.
    power : float
        Of the minimum detectable difference.
    further : float
        Variance that the replicates do not show, in squared units of the metric.

    Returns
    -------
    Difference
        Its standard error is the standard deviation of the replicates, times the root of the factor of a
        `levels.Level`; None if most of them have no value. The interval is symmetric, by that standard error: in
        cross-validated cohorts of 60 patients it holds 94 to 97 % of differences (`benchmarks/coverage_refit.py`).
    """
    values = in_blocks(metric_a, weights) - in_blocks(metric_b, weights)
    return difference_of(values, confidence, power=power, further=further)


def difference_of(values: Floats, confidence: float, *, power: float = 0.8, further: float = 0.0) -> Difference:
    """Estimate a difference from its values (1 + R,) on the sample and on its replicates, as `paired_difference`."""
    found = estimate_of(values, confidence)
    if found.lower is None:
        return Difference(found.value, None, None, se=None, minimum_detectable=None)
    se = float(np.std(values[1:][np.isfinite(values[1:])], ddof=1) * np.sqrt(factor_of(confidence)))
    se = float(np.hypot(se, np.sqrt(further))) if further else se
    reach = quantile_of(float(confidence)) * se
    return Difference(
        found.value,
        float(values[0]) - reach,
        float(values[0]) + reach,
        se=se,
        minimum_detectable=minimum_detectable_difference(se, power, 1 - confidence),
    )


def _summed(values: Floats, cluster: NDArray[np.intp], n_clusters: int) -> Floats:
    """Sum values (S, m) within clusters: (S, n_clusters)."""
    return np.stack([np.bincount(cluster, weights=row, minlength=n_clusters) for row in values])


def _z(difference: float, se: float) -> float:
    if abs(difference) < NO_SPREAD:
        return 0.0 if np.isfinite(se) else float("nan")
    return difference / se if se > NO_SPREAD else float("nan")
