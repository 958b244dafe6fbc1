"""Patient-cluster bootstrap: percentile intervals of every metric from the same replicates."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.levels import expanded, is_cross_fitted, level_for, quantile_of

Floats = NDArray[np.float64]

BLOCK = 50  # replicates per block, so that the intermediate results of a metric fit into the processor's cache


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval; None where it cannot be computed on these cases."""

    value: float | None
    lower: float | None
    upper: float | None

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, rounded to six digits."""
        return {name: None if number is None else round(number, 6) for name, number in asdict(self).items()}


@dataclass(frozen=True)
class Bootstrap:
    """Settings of a patient-cluster bootstrap with percentile intervals.

    Attributes
    ----------
    replicates : int
        Number of resamples, at least 1.
    confidence : float
        Level of the intervals, between 0 and 1, e.g. 0.95.
    seed : int
        Seed of the random draws.
    """

    replicates: int
    confidence: float
    seed: int

    def weights(self, patients: NDArray[np.str_]) -> Floats:
        """Draw the weight of each case (1 + replicates, n) as `cluster_weights` does."""
        return cluster_weights(patients, self.replicates, self.seed)

    def over(
        self, patients: NDArray[np.str_], folds: NDArray[np.str_] | None = None, *, cross_fitted: bool = False
    ) -> "Bootstrap":
        """Set the level for these patients (n,), and for the folds (n,) that held them out, see `levels.level_for`."""
        return replace(self, confidence=level_for(self.confidence, patients, folds, cross_fitted=cross_fitted))


def cluster_weights(patients: NDArray[np.str_], replicates: int, seed: int) -> Floats:
    """Draw patients with replacement and weight each case by the number of times its patient was drawn.

    Field and Welsh 2007, section 3 ("cluster bootstrap"): images of one patient are correlated, so drawing images would
    overstate the number of independent observations.

    Returns
    -------
    (1 + replicates, n)
        The first row is the sample itself: all ones.
    """
    names, rows = np.unique(patients, return_inverse=True)
    rng, shares = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    weights = np.ones((1 + replicates, len(patients)))
    for start in range(1, 1 + replicates, BLOCK):  # the same draws as all at once, in half of the memory
        block = weights[start : start + BLOCK]
        block[:] = rng.multinomial(len(names), shares, size=len(block))[:, rows]
    return weights


def estimate(metric: Callable[[Floats], Floats], weights: Floats, confidence: float) -> Estimate:
    """Estimate a metric with its percentile interval; replicates without a value are left out.

    Parameters
    ----------
    metric : callable
        Maps weights (R, n) to values (R,).
    weights : (1 + R, n)
        See `cluster_weights`.
    confidence : float
        Level of the interval, e.g. 0.95.
    """
    return estimate_of(in_blocks(metric, weights), confidence)


def in_blocks(metric: Callable[[NDArray[Any]], Floats], rows: NDArray[Any]) -> Floats:
    """Compute a metric (R,) or a curve (R, G) for blocks of `BLOCK` rows of weights or of drawn events.

    The values equal those of all rows at once, in half of the time or less.
    """
    return np.concatenate([metric(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)])


def estimate_of(values: Floats, confidence: float) -> Estimate:
    """Take value and percentile interval from values (1 + R,) of the sample and of its replicates.

    There is no interval if fewer than half of the replicates have a value. A `levels.Level` widens the interval.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]):
        return Estimate(None, None, None)
    if len(drawn) < 0.5 * (len(values) - 1):
        return Estimate(float(values[0]), None, None)
    tail = (1 - expanded(confidence)) / 2
    lower, upper = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(float(values[0]), float(lower), float(upper))


def loss_estimate(values: Floats, confidence: float) -> Estimate:
    """Estimate a mean loss from values (1 + R,) with the interval of its standard error on the logarithmic scale.

    Losses are skewed: percentiles of few patients do not reach far enough up. In 1,000 cohorts of 60 patients they held
    the log-loss in 93.1 %, these limits in 94.1 % (`benchmarks/coverage_refit.py` measures more).
    """
    found = estimate_of(values, confidence)
    drawn = values[1:][np.isfinite(values[1:]) & (values[1:] > 0)]
    if found.value is None or found.lower is None or found.value <= 0 or len(drawn) < 2:
        return found
    with np.errstate(over="ignore"):
        reach = float(np.exp(quantile_of(confidence) * np.std(np.log(drawn), ddof=1)))
    if not np.isfinite(found.value * reach):  # draws without any loss beside others
        return found
    return Estimate(found.value, found.value / reach, found.value * reach)


def estimate_all(
    metrics: Mapping[str, Callable[[Floats], Floats]], weights: Floats, confidence: float
) -> dict[str, Estimate]:
    """Estimate several metrics on the same replicates."""
    return {name: estimate(metric, weights, confidence) for name, metric in metrics.items()}


def distance_estimate(found: Estimate, confidence: float, plug_in: float | None = None) -> Estimate:
    """Convert the percentile interval of a distance, which is biased upwards, into the basic bootstrap interval.

    Resampling adds sampling error to a plug-in distance a second time, so its percentiles are too high. The basic
    interval, plug-in + value - percentile, removes this bias (Davison and Hinkley 1997, section 5.2; for a debiased
    metric: `bootstrap_uncertainty` in the library of Kumar, Liang, Ma 2019). It is then cut at 0 and widened to contain
    the value. Under perfect calibration it rarely reaches 0 nevertheless; compare with `calibration.if_perfect`.

    Where the calibration was cross-fitted, the distance of the released model is to be covered, whose calibrator has
    errors of its own: the interval reaches at least half of its width above the value (`benchmarks/coverage_refit.py`).

    Parameters
    ----------
    found : Estimate
        With the percentile interval, see `estimate`.
    confidence : float
        Level of that interval; a `levels.Level` knows whether the calibration was cross-fitted.
    plug_in : float, optional
        The plug-in metric, if the value is debiased.
    """
    if found.value is None or found.lower is None or found.upper is None:
        return found
    centre = found.value + (found.value if plug_in is None else plug_in)
    lower, upper = max(centre - found.upper, 0.0), max(centre - found.lower, found.value)
    if is_cross_fitted(confidence):
        upper = max(upper, found.value + (found.upper - found.lower) / 2)
    return Estimate(found.value, min(lower, found.value), upper)
