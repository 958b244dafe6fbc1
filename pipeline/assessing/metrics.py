"""The figures by which a classifier is judged, each for many weightings of the same cases at once.

Every function takes weights of shape (R, n) and returns R values: one row of ones gives the figure itself, rows of
a bootstrap give its distribution. All of it is numpy, tested against closed forms and against scikit-learn.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, logsumexp

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SMALLEST = 1e-15
CERTAIN = 1e-3  # every residual below it: the forecasts separate the events
MAX_SLOPE = 1e3


def roc_auc(scores: Floats, events: NDArray[np.bool_], weights: Floats) -> Floats:
    """Area under the ROC curve: the chance that an event scores higher than a non-event, ties counting half.

    Parameters
    ----------
    scores : (n,)
    events : (n,) bool
    weights : (R, n), at least 0

    Returns
    -------
    (R,)
        NaN where a weighting leaves no event or no non-event.
    """
    _, rank = np.unique(scores, return_inverse=True)
    to_rank = sparse.csr_array((np.ones(len(scores)), (np.arange(len(scores)), rank)))
    positive, negative = (weights * events) @ to_rank, (weights * ~events) @ to_rank
    below = np.cumsum(negative, axis=1) - negative
    return _ratio((positive * (below + negative / 2)).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def macro_auc(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """AUC of the last class for two classes, else the mean of the one-versus-rest AUCs."""
    n_classes = probabilities.shape[1]
    if n_classes == 2:
        return roc_auc(probabilities[:, 1], labels == 1, weights)
    per_class = [roc_auc(probabilities[:, c], labels == c, weights) for c in range(n_classes)]
    return np.asarray(np.mean(per_class, axis=0))


def accuracy(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Share of cases whose most probable class is the true one."""
    return _mean((probabilities.argmax(axis=1) == labels).astype(float), weights)


def sensitivity(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Share of the last class found, at the most probable class; for more than two classes the mean over classes."""
    return _over_classes(probabilities, labels, weights, lambda truth, found: (truth, found))


def specificity(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Share of the others left alone, at the most probable class; for more than two classes the mean over classes."""
    return _over_classes(probabilities, labels, weights, lambda truth, found: (~truth, ~found))


def log_loss(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Mean of -ln p(true class), in nats."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return _mean(-np.log(np.clip(chosen, SMALLEST, 1)), weights)


def brier(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Mean squared error of the probabilities.

    Of the last class for two classes (0 to 1); summed over the classes for more (0 to 2).
    """
    errors = (probabilities - np.eye(probabilities.shape[1])[labels]) ** 2
    return _mean(errors[:, 1] if errors.shape[1] == 2 else errors.sum(axis=1), weights)


def judged_confidence(probabilities: Floats, labels: Ints) -> tuple[Floats, NDArray[np.bool_]]:
    """Pick the probability whose calibration is judged, and whether its event happened.

    Two classes: the last class's. More: the most probable class's ("top-label").
    """
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], labels == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def bin_of(confidence: Floats, bins: int) -> Ints:
    """Find the equal-width bin of each probability; 1.0 falls into the last one."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def calibration_error(confidence: Floats, events: NDArray[np.bool_], weights: Floats, bins: int) -> Floats:
    """Compute the expected calibration error: sum_b n_b / n |mean y - mean p| over equal-width bins, plug-in.

    (Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, equation 3.) It is above 0 for perfect forecasts too: read it
    beside `calibration_error_if_perfect`.
    """
    to_bin = sparse.csr_array((np.ones(len(confidence)), (np.arange(len(confidence)), bin_of(confidence, bins))))
    gaps = (weights * (events - confidence)) @ to_bin
    return _ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def calibration_error_if_perfect(confidence: Floats, bins: int, replicates: int, seed: int) -> Floats:
    """Draw events from the forecasts themselves, and return what perfect calibration looks like at this n.

    Returns
    -------
    (replicates,)
    """
    rng = np.random.default_rng(seed)
    one = np.ones((1, len(confidence)))
    draws = rng.random((replicates, len(confidence))) < confidence
    return np.array([calibration_error(confidence, events, one, bins)[0] for events in draws])


def calibration_in_the_large(confidence: Floats, events: NDArray[np.bool_], weights: Floats) -> Floats:
    """Calibration intercept: a of logit P(y) = a + logit p, by maximum likelihood.

    0 is right; below 0 the forecasts are too high (Cox 1958; Van Calster et al. 2019, "Achilles heel", table 2.)
    """
    offset = _logit(confidence)
    intercept = np.zeros(len(weights))
    for _ in range(50):
        fitted = expit(offset + intercept[:, None])
        step = _ratio((weights * (events - fitted)).sum(axis=1), (weights * fitted * (1 - fitted)).sum(axis=1))
        intercept = intercept + np.clip(step, -2, 2)
    return np.where(np.abs(intercept) < 20, intercept, np.nan)


def calibration_slope(confidence: Floats, events: NDArray[np.bool_], weights: Floats) -> Floats:
    """Calibration slope: b of logit P(y) = a + b logit p, by maximum likelihood; 1 is right, below 1 is over-confident.

    Returns
    -------
    (R,)
        NaN where the forecasts separate the events and no finite slope exists.
    """
    x = _logit(confidence)
    scale = np.std(x) or 1.0
    design = np.stack([np.ones_like(x), x / scale])
    coefficients = np.zeros((len(weights), 2))
    for _ in range(50):
        fitted = expit(coefficients @ design)
        gradient = (weights * (events - fitted)) @ design.T
        curvature = np.einsum("rn,in,jn->rij", weights * fitted * (1 - fitted), design, design)
        curvature += 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        coefficients = coefficients + _uphill(step, coefficients, design, events, weights)
    residuals = np.abs(events - expit(coefficients @ design)) * (weights > 0)
    found = (residuals.max(axis=1) > CERTAIN) & (np.abs(gradient).max(axis=1) < 1e-6 * weights.sum(axis=1))
    return np.where(found, coefficients[:, 1] / scale, np.nan)


def _uphill(step: Floats, start: Floats, design: Floats, events: NDArray[np.bool_], weights: Floats) -> Floats:
    """Halve Newton's steps (R, 2) until the likelihood does not fall; whole ones may swing about it for ever."""

    def likelihood(coefficients: Floats) -> Floats:
        scores = coefficients @ design
        likelihoods: Floats = (weights * (events * scores - np.logaddexp(0, scores))).sum(axis=1)
        return likelihoods

    least = likelihood(start) - 1e-9
    for _ in range(30):
        falls = likelihood(start + step) < least
        if not falls.any():
            break
        step = np.where(falls[:, None], step / 2, step)
    return step


def multiclass_slope(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Slope of more than two classes: b of p ~ softmax(b ln p), by maximum likelihood; the inverse of a temperature."""
    z = np.log(np.clip(probabilities, SMALLEST, 1))
    chosen = z[np.arange(len(labels)), labels]
    slope = np.ones(len(weights))
    for _ in range(50):
        scaled = slope[:, None, None] * z
        fitted = np.exp(scaled - logsumexp(scaled, axis=2, keepdims=True))
        mean = (fitted * z).sum(axis=2)
        variance = (fitted * z**2).sum(axis=2) - mean**2
        step = _ratio((weights * (chosen - mean)).sum(axis=1), (weights * variance).sum(axis=1))
        slope = np.clip(slope + np.clip(step, -1, 1), 0, MAX_SLOPE)
    return np.where(slope < MAX_SLOPE, slope, np.nan)


def roc_curve(scores: Floats, events: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Give the corners of the ROC curve: false-positive and true-positive rates from (0, 0) to (1, 1)."""
    thresholds, rank = np.unique(-scores, return_inverse=True)
    positive = np.bincount(rank, weights=events, minlength=len(thresholds))
    negative = np.bincount(rank, weights=~events, minlength=len(thresholds))
    return _share(negative), _share(positive)


def _share(counts: NDArray[Any]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])


def _over_classes(
    probabilities: Floats,
    labels: Ints,
    weights: Floats,
    side: Callable[[NDArray[np.bool_], NDArray[np.bool_]], tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> Floats:
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    rates = []
    for number in [1] if n_classes == 2 else range(n_classes):
        truth, found = side(labels == number, predicted == number)
        rates.append(_ratio((weights * (truth & found)).sum(axis=1), (weights * truth).sum(axis=1)))
    return np.asarray(np.mean(rates, axis=0))


def _logit(probabilities: Floats) -> Floats:
    clipped = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _mean(values: Floats, weights: Floats) -> Floats:
    return _ratio(weights @ values, weights.sum(axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)
