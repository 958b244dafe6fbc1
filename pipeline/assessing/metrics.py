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
Labels = NDArray[Any]  # (n,) numbers of classes, or (n, C) with NaN for what is not known
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


def quadratic_kappa(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Agreement of the most probable grade with the true one beyond chance, an error counting by its square.

    Weighted kappa (Cohen 1968, equation 15, with weights (i - j)^2): 1 is perfect, 0 chance. The sum of
    (i - j)^2 over independent draws from both margins is written by their moments.

    Returns
    -------
    (R,)
        NaN where all true and all forecast grades are one and the same.
    """
    truth, found = labels.astype(float), probabilities.argmax(axis=1).astype(float)
    by_chance = _mean(truth**2, weights) + _mean(found**2, weights) - 2 * _mean(truth, weights) * _mean(found, weights)
    return 1 - _ratio(_mean((truth - found) ** 2, weights), by_chance)


def grade_error(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Mean absolute error, in grades, of the median grade: the lowest one that half of the probability lies up to.

    The median is the forecast of the least expected absolute error.
    """
    median = (np.cumsum(probabilities, axis=1) >= 0.5).argmax(axis=1)
    return _mean(np.abs(median - labels).astype(float), weights)


def judged_confidence(probabilities: Floats, labels: Labels) -> tuple[Floats, NDArray[np.bool_]]:
    """Pick the probabilities whose calibration is judged, and whether their event happened.

    Two classes: the last class's. More: the most probable class's ("top-label"). Labels that stand each by itself
    (n, C), NaN where not known: those of every known pair of case and label ("micro").
    """
    if labels.ndim == 2:
        known = np.isfinite(labels)
        return probabilities[known], labels[known] == 1
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
    gaps = (weights * (events - confidence)) @ _to_bins(confidence, bins)
    return _ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def calibration_error_if_perfect(confidence: Floats, bins: int, replicates: int, seed: int) -> Floats:
    """Draw events from the forecasts themselves, and return what perfect calibration looks like at this n.

    Returns
    -------
    (replicates,)
    """
    rng = np.random.default_rng(seed)
    draws = rng.random((replicates, len(confidence))) < confidence
    gaps = np.ascontiguousarray((draws - confidence) @ _to_bins(confidence, bins))
    return _ratio(np.abs(gaps).sum(axis=1), np.full(replicates, float(len(confidence))))


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


def _to_bins(confidence: Floats, bins: int) -> sparse.csr_array:
    """Sum cases (n,) by the bin of their forecast: an (n, bins) matrix of ones."""
    n = len(confidence)
    return sparse.csr_array((np.ones(n), (np.arange(n), bin_of(confidence, bins))), shape=(n, bins))


def _share(counts: NDArray[Any]) -> Floats:
    total = float(counts.sum())
    return np.concatenate([[0.0], _ratio(np.cumsum(counts), np.full(len(counts), total))])


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
