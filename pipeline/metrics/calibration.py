"""Calibration metrics: calibration in the large, slope, binned calibration errors, and the CORP decomposition.

Weights are (R, n), and R values are returned. Events are (n,), or (R, n) if each weighting has its own events, which
`if_perfect` uses to compute the null distribution of any metric.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import isotonic_regression
from scipy.special import expit, logsumexp

from pipeline.metrics.bootstrap import in_blocks
from pipeline.metrics.discrimination import SMALLEST, Floats, Ints, Labels, mean, ranks_of, ratio

Marks = NDArray[np.bool_]
Names = NDArray[np.str_]
Metric = Callable[[Floats, Marks, Floats], Floats]  # predictions (n,), events (n,) or (R, n), weights (R, n) to (R,)

CERTAIN = 1e-3  # if every residual is below it, the predictions separate the events
MAX_SLOPE = 1e3
LARGE_STEP = 0.1  # smaller Newton steps always increase the likelihood
CONVERGED = 1e-10  # smaller Newton steps change no reported digit


def evaluated_confidence(probabilities: Floats, labels: Labels) -> tuple[Floats, Marks]:
    """Select the probabilities whose calibration is evaluated, and their events.

    Two classes: the probability of the last class. More: that of the most probable class ("top-label"). Multilabel
    (n, C), NaN for not known: those of every known pair of case and label ("micro").
    """
    if labels.ndim == 2:
        known = np.isfinite(labels)
        return probabilities[known], labels[known] == 1
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], labels == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def observed_expected(confidence: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the ratio of observed to expected events (O:E); 1 is perfect, below 1 the predictions are too high.

    NaN if the expected number is 0.
    """
    return ratio((weights * events).sum(axis=1), weights @ confidence)


def calibration_in_the_large(confidence: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the calibration intercept: a of logit P(y) = a + logit p, by maximum likelihood.

    0 is perfect; below 0 the predictions are too high (Cox 1958; Van Calster et al. 2019, "Achilles heel", table 2.)
    """
    offset = logit(confidence)
    intercept = np.zeros(len(weights))
    for _ in range(50):
        fitted = expit(offset + intercept[:, None])
        step = ratio((weights * (events - fitted)).sum(axis=1), (weights * fitted * (1 - fitted)).sum(axis=1))
        intercept = intercept + np.clip(step, -2, 2)
        if not (np.abs(step) > CONVERGED).any():
            break
    return np.where(np.abs(intercept) < 20, intercept, np.nan)


def calibration_slope(confidence: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the calibration slope: b of logit P(y) = a + b logit p, by maximum likelihood.

    1 is perfect; below 1 the predictions are overconfident.

    Returns
    -------
    (R,)
        NaN if the predictions separate the events, so that no finite slope exists.
    """
    return logistic_line(confidence, events, weights)[:, 1]


def logistic_line(confidence: Floats, events: Marks, weights: Floats) -> Floats:
    """Fit a and b of logit P(y) = a + b logit p by maximum likelihood (Cox 1958): (R, 2), NaN if not finite."""
    x = logit(confidence)
    scale = np.std(x) or 1.0
    design = np.stack([np.ones_like(x), x / scale])
    coefficients = np.tile([0.0, scale], (len(weights), 1))  # start from the unchanged predictions
    for _ in range(50):
        fitted = expit(coefficients @ design)
        gradient = (weights * (events - fitted)) @ design.T
        step = np.linalg.solve(_curvature(weights * fitted * (1 - fitted), design), gradient[..., None])[..., 0]
        if np.abs(step).max() > LARGE_STEP:
            step = _uphill(step, coefficients, design, events, weights=weights)
        coefficients = coefficients + step
        if np.abs(step).max() < CONVERGED:
            break
    residuals = np.abs(events - expit(coefficients @ design)) * (weights > 0)
    found = (residuals.max(axis=1) > CERTAIN) & (np.abs(gradient).max(axis=1) < 1e-6 * weights.sum(axis=1))
    return np.where(found[:, None], coefficients / [1, scale], np.nan)


def _curvature(spread: Floats, design: Floats) -> Floats:
    """Compute the Fisher information (R, 2, 2) of a design (2, n) under each weighting (R, n), never singular."""
    products = spread @ (design[[0, 0, 1]] * design[[0, 1, 1]]).T
    return products[:, [0, 1, 1, 2]].reshape(-1, 2, 2) + 1e-9 * np.eye(2)


def _uphill(step: Floats, start: Floats, design: Floats, events: Marks, *, weights: Floats) -> Floats:
    """Halve Newton steps (R, 2) until the likelihood does not decrease; full steps may oscillate."""

    def likelihood(coefficients: Floats) -> Floats:
        scores = coefficients @ design
        softplus = np.maximum(scores, 0) + np.log1p(np.exp(-np.abs(scores)))  # four times as fast as logaddexp
        likelihoods: Floats = (weights * (events * scores - softplus)).sum(axis=1)
        return likelihoods

    least = likelihood(start) - 1e-9
    for _ in range(30):
        falls = likelihood(start + step) < least
        if not falls.any():
            break
        step = np.where(falls[:, None], step / 2, step)
    return step


def multiclass_slope(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the slope for more than two classes: b of p ~ softmax(b ln p), by maximum likelihood.

    It is the inverse of a temperature.
    """
    z = np.log(np.clip(probabilities, SMALLEST, 1))
    chosen = z[np.arange(len(labels)), labels]
    slope = np.ones(len(weights))
    for _ in range(50):
        scaled = slope[:, None, None] * z
        fitted = np.exp(scaled - logsumexp(scaled, axis=2, keepdims=True))
        centre = (fitted * z).sum(axis=2)
        variance = (fitted * z**2).sum(axis=2) - centre**2
        step = ratio((weights * (chosen - centre)).sum(axis=1), (weights * variance).sum(axis=1))
        slope = np.clip(slope + np.clip(step, -1, 1), 0, MAX_SLOPE)
        if not (np.abs(step) > CONVERGED).any():
            break
    return np.where(slope < MAX_SLOPE, slope, np.nan)


def bin_of(confidence: Floats, bins: int, mass: bool = False) -> Ints:
    """Find the bin of each probability: of equal width, with 1.0 in the last bin, or of equal mass.

    Bins of equal mass end at the k/bins quantiles of these predictions. Equal predictions share a bin, so that many
    ties make a bin larger and may leave others empty.
    """
    if not mass:
        return np.minimum((confidence * bins).astype(np.int64), bins - 1)
    last = (
        np.arange(1, bins) * len(confidence) - 1
    ) // bins  # integers, so that the result does not depend on rounding
    return np.searchsorted(np.sort(confidence)[last], confidence)


def calibration_error(confidence: Floats, events: Marks, weights: Floats, bins: int, *, mass: bool = False) -> Floats:
    """Compute the expected calibration error: sum_b n_b / n |mean y - mean p| over bins, plug-in.

    (Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, equation 3; of equal mass: Nixon et al. 2019.) It
    is above 0 for perfect predictions too: compare with `calibration_error_if_perfect`.
    """
    gaps = (weights * (events - confidence)) @ _to_bins(confidence, bins, mass)
    return ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def calibration_error_if_perfect(
    confidence: Floats, *, bins: int, replicates: int, seed: int, patients: Names, mass: bool = False
) -> Floats:
    """Draw the calibration error (replicates,) under perfect calibration at this n, see `if_perfect`."""
    return if_perfect(
        partial(calibration_error, bins=bins, mass=mass),
        confidence,
        replicates=replicates,
        seed=seed,
        patients=patients,
    )


def if_perfect(metric: Metric, confidence: Floats, *, replicates: int, seed: int, patients: Names) -> Floats:
    """Draw the null distribution of a metric under perfect calibration, with events drawn from the predictions.

    One uniform number is drawn per patient, and an image has an event if its prediction exceeds it. Every prediction is
    then calibrated, and the images of a patient are correlated as far as their predictions allow. With independent
    draws, images that share their label would seem far too well calibrated.

    Parameters
    ----------
    metric : callable
    confidence : (n,)
    replicates, seed : int
    patients : (n,)

    Returns
    -------
    (replicates,)
    """
    names, patient = np.unique(patients, return_inverse=True)
    draws = np.random.default_rng(seed).random((replicates, len(names)))[:, patient] < confidence
    return in_blocks(lambda events: metric(confidence, events, np.ones(events.shape)), draws)


def squared_error(confidence: Floats, events: Marks, weights: Floats, bins: int, *, mass: bool = False) -> Floats:
    """Compute the squared calibration error: sum_b n_b / n (mean y - mean p)^2 over bins, plug-in.

    Of perfect predictions it is the sum over bins of the mean of p (1 - p), divided by n: about bins / (6 n) if p is
    uniform.
    """
    to_bins = _to_bins(confidence, bins, mass)
    gaps = (weights * (events - confidence)) @ to_bins
    return ratio(np.nan_to_num(ratio(gaps**2, weights @ to_bins)).sum(axis=1), weights.sum(axis=1))


def squared_error_debiased(
    confidence: Floats, events: Marks, weights: Floats, bins: int, *, mass: bool = False
) -> Floats:
    """Compute the debiased squared calibration error: 0 on average under perfect calibration.

    (mean r)^2 of a bin, r = y - p, is reduced by the variance of r over n_b. Where a bin has one prediction that is
    mean y (1 - mean y) / (n_b - 1), as in Broecker 2012 (Climate Dynamics 39) and Kumar, Liang, Ma 2019
    ("Verified uncertainty calibration", section 5); if predictions differ within a bin, theirs would also subtract
    the variance of p.
    Cases count as independent: correlated images of a patient leave some bias.

    Returns
    -------
    (R,)
        Below 0 if the predictions fit better than expected by chance. A case alone in its bin adds nothing.
    """
    to_bins = _to_bins(confidence, bins, mass)
    rest = weights * (events - confidence)
    gaps, squares, n = rest @ to_bins, (rest * (events - confidence)) @ to_bins, weights @ to_bins
    return ratio(np.nan_to_num(ratio(gaps**2 - squares, n - 1)).sum(axis=1), weights.sum(axis=1))


class Corp(NamedTuple):
    """Components (R,) of the Brier score, which is miscalibration - discrimination + uncertainty."""

    miscalibration: Floats
    discrimination: Floats
    uncertainty: Floats


def corp(confidence: Floats, events: Marks, weights: Floats) -> Corp:
    """Decompose the Brier score of a yes/no prediction by isotonic recalibration ("CORP").

    (Dimitriadis, Gneiting, Jordan 2021, "Stable reliability diagrams for probabilistic classifiers".)
    Miscalibration is the gain of recalibrating on the same cases, so it is above 0 for perfect predictions too. It is
    exactly 0 for predictions that were recalibrated isotonically on the same cases.

    Returns
    -------
    Corp
        NaN if all weights are zero.
    """
    plain, share = mean((events - confidence) ** 2, weights), mean(np.asarray(events, dtype=np.float64), weights)
    uncertainty, recalibrated = share * (1 - share), _recalibrated_brier(confidence, events, weights)
    return Corp(plain - recalibrated, uncertainty - recalibrated, uncertainty)


def miscalibration(confidence: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the miscalibration component (R,) of `corp`."""
    return corp(confidence, events, weights).miscalibration


def _recalibrated_brier(confidence: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the Brier score (R,) after isotonic recalibration under each weighting."""
    to_rank = ranks_of(confidence)  # equal predictions stay equal
    n = weights @ to_rank
    shares = ratio((weights * events) @ to_rank, n)
    left = [_variance_within(share[many > 0], many[many > 0]) for share, many in zip(shares, n, strict=True)]
    return ratio(np.array(left), weights.sum(axis=1))


def _variance_within(share: Floats, n: Floats) -> float:
    """Sum the variance of events around the isotonic fit."""
    fit = isotonic_regression(share, weights=n).x if len(n) else share
    return float((n * fit * (1 - fit)).sum())


def logit(probabilities: Floats) -> Floats:
    """Compute ln(p / (1 - p)), with p clipped to keep it finite."""
    clipped = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _to_bins(confidence: Floats, bins: int, mass: bool) -> sparse.csr_array:
    """Build the (n, bins) indicator matrix of the bin of each prediction, which sums cases by bin."""
    n = len(confidence)
    return sparse.csr_array((np.ones(n), (np.arange(n), bin_of(confidence, bins, mass))), shape=(n, bins))
