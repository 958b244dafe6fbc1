"""Compute metrics of pooled predictions of several models, one per fold, and their bootstrap replicates."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.metrics import discrimination
from pipeline.metrics.bootstrap import Bootstrap, Estimate, estimate_of, in_blocks
from pipeline.metrics.discrimination import Labels, ratio
from pipeline.metrics.levels import coupling
from pipeline.metrics.paired_tests import minimum_detectable_difference
from pipeline.metrics.questions import TOP_LABEL, Question, questions_of
from pipeline.metrics.summary import as_number
from pipeline.stages.evidence.statistics.runs import Floats, Key, Marks, Names, Runs

RANGES = {"auc": (0.0, 1.0), "log_loss": (0.0, np.inf), "brier": (0.0, 2.0), "ece": (0.0, 1.0)}
Metric = Callable[[Floats, Labels, Names, Floats], Floats]  # probabilities, labels, folds, weights (R, n) to (R,)


@dataclass(frozen=True)
class Resampled:
    """Bootstrap weights of the cases, shared by all experimental arms.

    Attributes
    ----------
    weights : (1 + R, n)
        How often the patient of each case was drawn; the first row is the sample itself, all ones.
    confidence : float
        Level of every interval, e.g. 0.95.
    seed : int
        Of the draws in `shares`.
    """

    weights: Floats
    confidence: float
    seed: int

    def shares(self, draws: int) -> Floats:
        """Resample the random orders of the training patients; give the share (1 + R, draws) of each order."""
        if draws == 1:
            return np.ones((len(self.weights), 1))
        rng = np.random.default_rng([self.seed, draws])
        again = rng.multinomial(draws, np.full(draws, 1 / draws), size=len(self.weights) - 1)
        return np.vstack([np.ones(draws), again]) / draws


def resample(several: Iterable[Runs], bootstrap: Bootstrap) -> list[Resampled]:
    """Resample the patients of several sets of cases jointly; a patient in two sets has the same weight in both."""
    patients = [runs.patients for runs in several]
    weights = bootstrap.weights(np.concatenate(patients))
    parts = np.split(weights, np.cumsum([len(names) for names in patients])[:-1], axis=1)
    return [Resampled(part, bootstrap.confidence, bootstrap.seed) for part in parts]


def auc(probabilities: Floats, labels: Labels, folds: Names, weights: Floats) -> Floats:
    """Compute the area under the ROC curve from pairs of cases of the same fold.

    The models of two folds score on different scales, so an event is only compared with non-events of its own fold
    (Airola et al. 2011, "An experimental comparison of cross-validation techniques for estimating the area under the
    ROC curve"; there all folds have equal weight).

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int, or (n, K) with NaN where a label is not known
    folds : (n,) str
    weights : (R, n)

    Returns
    -------
    (R,)
        For two classes the AUC of the last one; for more classes the mean of the one-versus-rest AUCs, NaN if one of
        them does not exist; for a multilabel task the mean over the labels that have both answers in some fold.
    """
    found = [auc_of(question, folds, weights) for question in questions(probabilities, labels)]
    if labels.ndim == 1:
        return np.asarray(np.mean(found, axis=0))
    if not found:
        return np.full(len(weights), np.nan)
    there = np.isfinite(found)
    return ratio(np.where(there, found, 0).sum(axis=0), there.sum(axis=0).astype(np.float64))


def auc_of(question: Question, folds: Names, weights: Floats) -> Floats:
    """Compute the AUC (R,) of one yes/no question from pairs of the same fold; NaN where there is no such pair.

    As in `discrimination.roc_auc`, each event counts the weight of non-events with a lower score, and half of those
    with the same score. Here all folds share one ranking in which every score of a fold ranks above all scores of the
    folds before it, and the non-events of earlier folds are subtracted.
    """
    n, some = len(question.rows), weights[:, question.rows]
    _, score = np.unique(question.prediction, return_inverse=True)
    _, fold = np.unique(folds[question.rows], return_inverse=True)
    key = fold * n + score  # sorts by fold, then by score
    to_rank = discrimination.ranks_of(key.astype(np.float64))
    fold_of_rank = np.unique(key) // n
    positive, negative = (some * question.events) @ to_rank, (some * ~question.events) @ to_rank
    below = np.cumsum(negative, axis=1) - negative
    below -= below[:, np.searchsorted(fold_of_rank, fold_of_rank)]
    first_ranks = np.searchsorted(fold_of_rank, np.unique(fold_of_rank))
    pairs = np.add.reduceat(positive, first_ranks, axis=1) * np.add.reduceat(negative, first_ranks, axis=1)
    return ratio((positive * (below + negative / 2)).sum(axis=1), pairs.sum(axis=1))


def questions(probabilities: Floats, labels: Labels) -> list[Question]:
    """List the yes/no questions: the last of two classes, each of more classes, or each label, named by its number."""
    names = [str(number) for number in range(probabilities.shape[1])]
    return [question for question in questions_of(probabilities, labels, names) if question.name != TOP_LABEL]


def log_loss(probabilities: Floats, labels: Labels, folds: Names, weights: Floats) -> Floats:
    """Compute the log-loss, the mean of -ln p(true class) in nats, over cases; for multilabel, over all known labels.

    Parameters and return value are those of `auc`.
    """
    if labels.ndim == 1:
        return discrimination.log_loss(probabilities, labels, weights)
    losses, known = discrimination.case_losses(probabilities, labels)
    return ratio(weights @ losses, weights @ known)


def replicated(runs: Runs, key: Key, *, metric: Metric, weights: Floats, among: Marks) -> Floats:
    """Compute a metric of some cases (n,) on the sample and on every replicate, widened by `coupling`: (1 + R,)."""
    of_cases = partial(metric, runs.probabilities[key][among], runs.labels[among], runs.folds[among])
    return widened(in_blocks(of_cases, weights[:, among]), coupling(runs.folds, among, key.fraction))


def widened(values: Floats, factor: float) -> Floats:
    """Multiply the variance of the replicates around the sample value, which is the first row, by a factor."""
    return np.asarray(values[:1] + np.sqrt(factor) * (values - values[:1]))


def within_range(found: Estimate, metric: str) -> Estimate:
    """Clip an interval, which `widened` may have extended too far, to the range of the metric."""
    if found.lower is None or found.upper is None or metric not in RANGES:
        return found
    low, high = RANGES[metric]
    return Estimate(found.value, max(found.lower, low), min(found.upper, high))


def difference_of(values: Floats, confidence: float) -> tuple[float | None, float | None, float | None, float | None]:
    """Estimate a difference (1 + R,) with its interval and the smallest difference that these cases could detect.

    Returns
    -------
    value, lower, upper, minimum_detectable
        Rounded to six digits; None where a number does not exist. The minimum detectable difference is that of a test
        at level 1 - `confidence` with 80 % power.
    """
    found = estimate_of(values, confidence)
    if found.lower is None:
        return (*found.as_json().values(), None)
    se = float(np.std(values[1:][np.isfinite(values[1:])], ddof=1))
    least = minimum_detectable_difference(se, alpha=1 - confidence)
    return (*found.as_json().values(), as_number(least))
