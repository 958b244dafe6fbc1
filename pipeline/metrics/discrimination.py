"""The metrics by which a classifier is evaluated, each for many weightings of the same cases at once.

Every function takes weights of shape (R, n) and returns R values: one row of ones gives the metric itself, rows of
a bootstrap give its distribution. All of it is numpy, tested against closed forms and against scikit-learn.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = NDArray[Any]  # (n,) numbers of classes, or (n, C) with NaN for what is not known
SMALLEST = 1e-15


def roc_auc(scores: Floats, events: NDArray[np.bool_], weights: Floats) -> Floats:
    """Compute the area under the ROC curve: the probability that an event scores above a non-event, ties counting half.

    Parameters
    ----------
    scores : (n,)
    events : (n,) bool
    weights : (R, n), at least 0

    Returns
    -------
    (R,)
        NaN if a weighting leaves no event or no non-event.
    """
    to_rank = ranks_of(scores)
    positive, negative = (weights * events) @ to_rank, (weights * ~events) @ to_rank
    below = np.cumsum(negative, axis=1) - negative
    return ratio((positive * (below + negative / 2)).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def average_precision(scores: Floats, events: NDArray[np.bool_], weights: Floats) -> Floats:
    """Compute the average precision: the mean over events of the precision at their score.

    sum_k (recall_k - recall_(k-1)) precision_k, equal scores forming one step. A random score gives the prevalence, not
    0.5. There is no linear interpolation, which would overestimate the area (Davis and Goadrich 2006, "The relationship
    between precision-recall and ROC curves", section 4).

    Parameters
    ----------
    scores : (n,)
    events : (n,) bool
    weights : (R, n), at least 0

    Returns
    -------
    (R,)
        NaN if a weighting leaves no event.
    """
    to_rank = ranks_of(scores)
    positive, everyone = (weights * events) @ to_rank, weights @ to_rank
    found, flagged = (np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] for counts in (positive, everyone))
    precision = np.nan_to_num(ratio(found, flagged))  # a score without weight has no event either
    return ratio((positive * precision).sum(axis=1), positive.sum(axis=1))


def macro_auc(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the AUC of the last class for two classes, else the mean of the one-versus-rest AUCs."""
    n_classes = probabilities.shape[1]
    if n_classes == 2:
        return roc_auc(probabilities[:, 1], labels == 1, weights)
    per_class = [roc_auc(probabilities[:, c], labels == c, weights) for c in range(n_classes)]
    return np.asarray(np.mean(per_class, axis=0))


def accuracy(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the share of cases whose most probable class is the true one."""
    return mean((probabilities.argmax(axis=1) == labels).astype(float), weights)


def sensitivity(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the sensitivity for the last class at the most probable class; for more than two classes the mean."""
    return _over_classes(probabilities, labels, weights, lambda truth, found: (truth, found))


def specificity(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the specificity for the last class at the most probable class; for more than two classes the mean."""
    return _over_classes(probabilities, labels, weights, lambda truth, found: (~truth, ~found))


def log_loss(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the mean of -ln p(true class), in nats."""
    return mean(case_losses(probabilities, labels)[0], weights)


def case_losses(probabilities: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Compute -ln p(true class) of each case (n,), in nats, and the number of its known labels (n,).

    Of a multilabel task (n, C) the loss is the sum over the known labels of the case.
    """
    if labels.ndim == 1:
        chosen = probabilities[np.arange(len(labels)), labels]
        return -np.log(np.clip(chosen, SMALLEST, 1)), np.ones(len(labels))
    known = np.isfinite(labels)
    chosen = np.where(labels == 1, probabilities, 1 - probabilities)
    return (-np.log(np.clip(chosen, SMALLEST, 1)) * known).sum(axis=1), known.sum(axis=1).astype(np.float64)


def brier(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the Brier score: the mean squared error of the probabilities.

    Of the last class for two classes (0 to 1); summed over the classes for more (0 to 2).
    """
    errors = (probabilities - np.eye(probabilities.shape[1])[labels]) ** 2
    return mean(errors[:, 1] if errors.shape[1] == 2 else errors.sum(axis=1), weights)


def quadratic_kappa(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the quadratically weighted kappa of the most probable grade and the true grade.

    Cohen 1968, equation 15, with weights (i - j)^2: 1 is perfect, 0 chance agreement. The expectation of (i - j)^2 for
    independent margins is computed from their moments.

    Returns
    -------
    (R,)
        NaN if all true and all predicted grades are equal.
    """
    truth, found = labels.astype(float), probabilities.argmax(axis=1).astype(float)
    by_chance = mean(truth**2, weights) + mean(found**2, weights) - 2 * mean(truth, weights) * mean(found, weights)
    return 1 - ratio(mean((truth - found) ** 2, weights), by_chance)


def grade_error(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Compute the mean absolute error, in grades, of the median grade: the lowest with cumulative probability >= 0.5.

    The median minimises the expected absolute error.
    """
    median = (np.cumsum(probabilities, axis=1) >= 0.5).argmax(axis=1)
    return mean(np.abs(median - labels).astype(float), weights)


def roc_curve(scores: Floats, events: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Compute the corners of the ROC curve: false-positive and true-positive rates from (0, 0) to (1, 1)."""
    thresholds, rank = np.unique(-scores, return_inverse=True)
    positive = np.bincount(rank, weights=events, minlength=len(thresholds))
    negative = np.bincount(rank, weights=~events, minlength=len(thresholds))
    return _share(negative), _share(positive)


def ranks_of(scores: Floats) -> sparse.csr_array:
    """Build the (n, unique scores) indicator matrix of scores in ascending order, which sums cases of equal score."""
    _, rank = np.unique(scores, return_inverse=True)
    return sparse.csr_array((np.ones(len(scores)), (np.arange(len(scores)), rank)))


def mean(values: Floats, weights: Floats) -> Floats:
    """Average values (n,), or (R, n), under each weighting (R, n): (R,), NaN if all weights are zero."""
    return ratio((weights * values).sum(axis=1) if values.ndim == 2 else weights @ values, weights.sum(axis=1))


def ratio(above: Floats, below: Floats) -> Floats:
    """Divide; NaN where the denominator is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _share(counts: NDArray[Any]) -> Floats:
    total = float(counts.sum())
    return np.concatenate([[0.0], ratio(np.cumsum(counts), np.full(len(counts), total))])


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
        rates.append(ratio((weights * (truth & found)).sum(axis=1), (weights * truth).sum(axis=1)))
    return np.asarray(np.mean(rates, axis=0))
