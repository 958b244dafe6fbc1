"""Profile-likelihood intervals of calibration intercept and slope, with patients as the unit.

A bootstrap of these metrics fails in small cohorts: some replicates separate the events, so that their slope is
infinite. The likelihood shows how far the data exclude a slope, also if they separate the events: then there is no
finite estimate, but a finite lower limit.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

from pipeline.metrics.bootstrap import Estimate
from pipeline.metrics.calibration import calibration_in_the_large, logistic_line, logit, multiclass_slope
from pipeline.metrics.discrimination import SMALLEST, Floats, Ints
from pipeline.metrics.levels import is_cross_fitted, quantile_of
from pipeline.metrics.shares import largest_effect

Marks = NDArray[np.bool_]
Names = NDArray[np.str_]

FARTHEST = 1e3  # a limit beyond it counts as open
CONVERGED = 1e-9


def intercept_estimate(prediction: Floats, events: Marks, patients: Names, confidence: float) -> Estimate:
    """Estimate the calibration intercept, a of logit P(y) = a + logit p, with its likelihood interval.

    Parameters
    ----------
    prediction, events, patients : (n,)
    confidence : float
        Level of the interval, e.g. 0.95; a `levels.Level` widens it.

    Returns
    -------
    Estimate
        The limits are those values whose likelihood ratio is at most the quantile of chi-squared with one degree of
        freedom, times the design effect: the ratio of the variances of the score with and without correlation within
        patients, at least 1 (Chandler and Bate 2007, "Inference for clustered data using the independence
        loglikelihood"; Pace, Salvan, Sartori 2011). Without events the value is None and the lower limit is open,
        without non-events the upper one.
    """
    x = logit(prediction)
    value = _finite(calibration_in_the_large(prediction, events, np.ones((1, len(x))))[0])

    def likelihood(intercept: float) -> float:
        return _likelihood(intercept + x, events)

    if value is None:
        one_sided = events.all() or not events.any()
        edge = FARTHEST if events.any() else -FARTHEST
        cut = _cut(confidence, largest_effect(patients))
        return _limits(likelihood, edge, cut, None) if one_sided else Estimate(None, None, None)
    fitted = expit(value + x)
    spread = fitted * (1 - fitted)
    effect = _effect(events - fitted, spread, spread / spread.sum(), patients)
    return _limits(likelihood, value, _cut(confidence, effect), value)


def slope_estimate(prediction: Floats, events: Marks, patients: Names, confidence: float) -> Estimate:
    """Estimate the calibration slope, b of logit P(y) = a + b logit p, with its profile-likelihood interval.

    Parameters and design effect as for `intercept_estimate`.

    Returns
    -------
    Estimate
        If the predictions separate the events, the value is None and the upper limit is open (`wording` calls it
        unstable); without events, without non-events or with equal predictions all three are None.
    """
    if events.all() or not events.any() or np.ptp(prediction) < SMALLEST:
        return Estimate(None, None, None)
    x = logit(prediction)
    x = x - x.mean()
    line = logistic_line(expit(x), events, np.ones((1, len(x))))[0]

    def profile(slope: float) -> float:
        return _likelihood(_best_intercept(slope * x, events) + slope * x, events)

    if not np.isfinite(line).all():
        above = profile(FARTHEST) >= profile(-FARTHEST)
        cut = _cut(confidence, largest_effect(patients))
        return _limits(profile, FARTHEST if above else -FARTHEST, cut, None)
    fitted = expit(line[0] + line[1] * x)
    spread = fitted * (1 - fitted)
    own = x - (spread @ x) / spread.sum()  # what the intercept does not explain
    information = own**2 * spread
    leverage = spread / spread.sum() + information / information.sum()
    effect = _effect(own * (events - fitted), information, leverage, patients)
    return _of_the_released(_limits(profile, float(line[1]), _cut(confidence, effect), float(line[1])), confidence)


def multiclass_slope_estimate(probabilities: Floats, labels: Ints, patients: Names, confidence: float) -> Estimate:
    """Estimate the slope for more than two classes, b of p ~ softmax(b ln p), with its likelihood interval.

    Parameters and return value as for `slope_estimate`; probabilities are (n, K), labels (n,).
    """
    z = np.log(np.clip(probabilities, SMALLEST, 1))
    chosen = z[np.arange(len(labels)), labels]

    def likelihood(slope: float) -> float:
        return float((slope * chosen - logsumexp(slope * z, axis=1)).sum())

    value = _finite(multiclass_slope(probabilities, labels, np.ones((1, len(labels))))[0])
    if value is None:
        return _limits(likelihood, FARTHEST, _cut(confidence, largest_effect(patients)), None)
    scaled = value * z
    fitted = np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True))
    centre = (fitted * z).sum(axis=1)
    information = (fitted * z**2).sum(axis=1) - centre**2
    effect = _effect(chosen - centre, information, information / information.sum(), patients)
    return _of_the_released(_limits(likelihood, value, _cut(confidence, effect), value), confidence)


def _of_the_released(found: Estimate, confidence: float) -> Estimate:
    """Let the upper limit of a cross-fitted slope reach as much further as the estimate lies below 1.

    A calibrator gives the predictions that it was fitted on a slope of 1, and those of the fold that it evaluates a
    lower one, because its errors go against theirs. The released calibrator is fitted on all of them
    (`benchmarks/coverage_refit.py`, decision 23).
    """
    if not is_cross_fitted(confidence) or found.value is None or found.upper is None or found.value >= 1:
        return found
    return Estimate(found.value, found.lower, found.upper + 1 - found.value)


def _limits(likelihood: Callable[[float], float], best: float, drop: float, value: float | None) -> Estimate:
    """Find where the likelihood is `drop` below its maximum, on both sides of `best`; None where it never is."""
    floor = likelihood(best) - drop
    lower, upper = (_crossing(lambda at: likelihood(at) - floor, best, step) for step in (-1, 1))
    return Estimate(value, lower, upper)


def _crossing(above: Callable[[float], float], start: float, step: int) -> float | None:
    near, reach = start, 0.25
    while reach <= 4 * FARTHEST:
        far = start + step * reach
        if above(far) < 0:
            return float(brentq(above, near, far, xtol=CONVERGED))
        near, reach = far, 2 * reach
    return None


def _cut(confidence: float, effect: float) -> float:
    return effect * quantile_of(confidence) ** 2 / 2


def _effect(scores: Floats, information: Floats, leverage: Floats, patients: Names) -> float:
    """Compute the design effect of patients on the variance of a score, at least 1.

    The score of a patient is divided by 1 less the patient's leverage, as a jackknife does (Bell and McCaffrey 2002,
    "Bias reduction in standard errors"): residuals of few patients are too small.
    """
    names, patient = np.unique(patients, return_inverse=True)
    if len(names) in (1, len(patients)):
        return 1.0
    of_patient, held = np.bincount(patient, weights=scores), np.bincount(patient, weights=leverage)
    jackknifed = of_patient / np.maximum(1 - held, SMALLEST)
    return max(float((jackknifed**2).sum()) / float(information.sum()) * (len(names) - 1) / len(names), 1.0)


def _likelihood(scores: Floats, events: Marks) -> float:
    return float((events * scores - np.maximum(scores, 0) - np.log1p(np.exp(-np.abs(scores)))).sum())


def _best_intercept(offset: Floats, events: Marks) -> float:
    """Find the intercept of the highest likelihood by a safe search: the score falls as the intercept grows."""
    total = events.sum()
    low, high = -float(offset.max()) - 40, -float(offset.min()) + 40
    return float(brentq(lambda a: float(expit(a + offset).sum()) - total, low, high, xtol=1e-10))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
