"""Metrics of predictions that several models made, one a fold, and how far they vary when patients are drawn again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.metrics import discrimination
from pipeline.metrics.bootstrap import Bootstrap, Estimate, estimate_of, in_blocks
from pipeline.metrics.discrimination import Labels, ratio
from pipeline.metrics.paired_tests import minimum_detectable_difference
from pipeline.metrics.questions import TOP_LABEL, Question, questions_of
from pipeline.metrics.summary import as_number
from pipeline.stages.evidence.statistics.runs import Floats, Key, Marks, Names, Runs

RANGES = {"auc": (0.0, 1.0), "log_loss": (0.0, np.inf), "brier": (0.0, 2.0), "ece": (0.0, 1.0)}
Metric = Callable[[Floats, Labels, Names, Floats], Floats]  # probabilities, labels, folds, weights (R, n) to (R,)


@dataclass(frozen=True)
class Resampled:
    """How often each patient was drawn, the same for every arm.

    Attributes
    ----------
    weights : (1 + R, n)
        Of each case; the first row is the sample itself, all ones.
    confidence : float
        Level of every interval, e.g. 0.95.
    seed : int
    """

    weights: Floats
    confidence: float
    seed: int

    def shares(self, draws: int) -> Floats:
        """Draw the random orders of the training patients again as well: the share (1 + R, draws) of each of them."""
        if draws == 1:
            return np.ones((len(self.weights), 1))
        rng = np.random.default_rng([self.seed, draws])
        again = rng.multinomial(draws, np.full(draws, 1 / draws), size=len(self.weights) - 1)
        return np.vstack([np.ones(draws), again]) / draws


def resample(several: Iterable[Runs], bootstrap: Bootstrap) -> list[Resampled]:
    """Draw the patients of several sets of cases together: one who is in two of them is drawn as often in both."""
    patients = [runs.patients for runs in several]
    weights = bootstrap.weights(np.concatenate(patients))
    parts = np.split(weights, np.cumsum([len(names) for names in patients])[:-1], axis=1)
    return [Resampled(part, bootstrap.confidence, bootstrap.seed) for part in parts]


def auc(probabilities: Floats, labels: Labels, folds: Names, weights: Floats) -> Floats:
    """Compute the area under the ROC curve from pairs of the same fold.

    Scores of two folds are of two models and not on one scale, so only an event and a non-event of one fold are
    compared (Airola et al. 2011, "An experimental comparison of cross-validation techniques for estimating the area
    under the ROC curve"; there each fold counts the same).

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int, or (n, K) with NaN for what is not known
    folds : (n,) str
    weights : (R, n)

    Returns
    -------
    (R,)
        Of the last of two classes, the mean of one-versus-rest AUCs for more, NaN where one does not exist. Of labels
        that stand each by itself the mean over those of which a fold has both kinds.
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

    As `metrics.roc_auc`, the folds one after the other on one scale; what lies below is counted from where each begins.
    """
    n, some = len(question.rows), weights[:, question.rows]
    score, fold = (np.unique(values, return_inverse=True)[1] for values in (question.prediction, folds[question.rows]))
    to_rank, fold_of = discrimination.ranks_of((fold * n + score).astype(np.float64)), np.unique(fold * n + score) // n
    positive, negative = (some * question.events) @ to_rank, (some * ~question.events) @ to_rank
    below = np.cumsum(negative, axis=1) - negative
    below -= below[:, np.searchsorted(fold_of, fold_of)]
    begins = np.searchsorted(fold_of, np.unique(fold_of))
    pairs = np.add.reduceat(positive, begins, axis=1) * np.add.reduceat(negative, begins, axis=1)
    return ratio((positive * (below + negative / 2)).sum(axis=1), pairs.sum(axis=1))


def questions(probabilities: Floats, labels: Labels) -> list[Question]:
    """Ask for the last of two classes, for each of more, or for each label; a question is named by its number."""
    names = [str(number) for number in range(probabilities.shape[1])]
    return [question for question in questions_of(probabilities, labels, names) if question.name != TOP_LABEL]


def log_loss(probabilities: Floats, labels: Labels, folds: Names, weights: Floats) -> Floats:
    """Mean of -ln p(what is true), in nats, over cases; over known pairs of case and label where each stands by itself.

    Parameters and result as of `auc`.
    """
    if labels.ndim == 1:
        return discrimination.log_loss(probabilities, labels, weights)
    losses, known = discrimination.case_losses(probabilities, labels)
    return ratio(weights @ losses, weights @ known)


def replicated(runs: Runs, key: Key, metric: Metric, weights: Floats, among: Marks) -> Floats:
    """Compute a metric of some cases (n,) on the sample and on every replicate, widened by `coupling`: (1 + R,)."""
    known = runs.probabilities[key][among], runs.labels[among], runs.folds[among]
    values = in_blocks(partial(metric, *known), weights[:, among])
    return widened(values, coupling(runs.folds, among, key.fraction))


def coupling(folds: Names, among: Marks, fraction: float = 1.0) -> float:
    """Say by how much the variance of a mean over folds exceeds what drawing the evaluated patients again shows.

    Patient i is evaluated by a model that learnt from j, and j by one that learnt from i. What the two have in common
    by chance counts twice, so that the errors of folds go together: with a correlation of 1 / (K - 1) of K folds where
    all that was learnt is chance, and less where it is not. That bound is taken here, times the fraction of patients
    from whom a model learns: F folds vary by 1 + fraction (F - 1) / (K - 1) more than if they were independent, which
    is 2 where all folds and all patients were used. (Nadeau and Bengio 2003, "Inference for the generalization error",
    take test / (test + training) for the correlation; Bates, Hastie, Tibshirani 2023, "Cross-validation: what does it
    estimate and how well does it do it?", show what is lost without it. `benchmarks/evidence.py` counts.)
    """
    n_folds, n_run = len(np.unique(folds)), len(np.unique(folds[among]))
    return 1 + fraction * (n_run - 1) / (n_folds - 1) if n_folds > 1 else 1.0


def widened(values: Floats, factor: float) -> Floats:
    """Multiply the variance of replicates about the sample, which is the first row."""
    return np.asarray(values[:1] + np.sqrt(factor) * (values - values[:1]))


def within_range(found: Estimate, metric: str) -> Estimate:
    """Cut an interval, which `widened` may have pushed over the edge, to the values that a metric can have."""
    if found.lower is None or found.upper is None or metric not in RANGES:
        return found
    low, high = RANGES[metric]
    return Estimate(found.value, max(found.lower, low), min(found.upper, high))


def difference_of(values: Floats, confidence: float) -> tuple[float | None, float | None, float | None, float | None]:
    """Give a difference (1 + R,) with its interval, and the least one that these cases could have shown.

    Returns
    -------
    value, lower, upper, minimum_detectable
        Rounded to six digits; the last one of a test at 1 - `confidence` with a power of 80 %. None where a number
        does not exist.
    """
    found = estimate_of(values, confidence)
    if found.lower is None:
        return (*found.as_json().values(), None)
    se = float(np.std(values[1:][np.isfinite(values[1:])], ddof=1))
    least = minimum_detectable_difference(se, alpha=1 - confidence)
    return (*found.as_json().values(), as_number(least))
