"""Selective prediction: the error rate of a model that abstains from answers of low confidence.

The confidence of an answer is its probability: that of the most probable class, or max(p, 1 - p) for each label of a
multilabel task. Weights are (R, n), and each metric is computed for all rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import xlogy

from pipeline.metrics.bands import band
from pipeline.metrics.bootstrap import estimate_all
from pipeline.metrics.discrimination import Floats, Ints, Labels, ratio
from pipeline.metrics.operating import called, chosen_elsewhere, needed, share, threshold_columns
from pipeline.metrics.summary import in_columns

Marks = NDArray[np.bool_]
COVERAGES = tuple(np.round(np.arange(0.05, 1.001, 0.05), 2))
FIXED = (0.8, 0.9)
BLOCK = 100  # replicates per block, which limits memory: every pair of case and label may have a column


@dataclass(frozen=True)
class Answers:
    """The answers of a model: one per case, or one per known pair of case and label.

    Attributes
    ----------
    confidence : (m,)
        Probability of the answer.
    wrong : (m,) bool
    rows : (m,) int
        Index of the case of each answer, among n cases.
    """

    confidence: Floats
    wrong: Marks
    rows: Ints


def answers_of(probabilities: Floats, labels: Labels) -> Answers:
    """Answer with the most probable class for labels (n,); for labels (n, C) with yes from one half, if known."""
    if labels.ndim == 1:
        return Answers(probabilities.max(axis=1), probabilities.argmax(axis=1) != labels, np.arange(len(labels)))
    rows, columns = np.nonzero(np.isfinite(labels))
    yes = probabilities[rows, columns]
    return Answers(np.maximum(yes, 1 - yes), (yes >= 0.5) != (labels[rows, columns] == 1), rows)


def risk_coverage(confidence: Floats, wrong: Marks, weights: Floats, coverages: Floats) -> Floats:
    """Compute the risk-coverage curve: errors among the most confident answers (Geifman, El-Yaniv 2017, section 2).

    Answers of equal confidence are accepted in random order, in expectation: if only some of them fit into a coverage,
    their errors count proportionally.

    Parameters
    ----------
    confidence : (m,)
    wrong : (m,) bool
    weights : (R, m), at least 0
    coverages : (G,)
        Shares of accepted answers, above 0, at most 1.

    Returns
    -------
    (R, G)
        NaN if a weighting leaves no answer.
    """
    risks = np.full((len(weights), len(coverages)), np.nan)
    for row, (accepted, errors) in enumerate(_cumulated(confidence, wrong, weights)):
        if len(accepted):
            wanted = coverages * accepted[-1]
            risks[row] = np.interp(wanted, np.append(0, accepted), np.append(0, errors)) / wanted
    return risks


def aurc(confidence: Floats, wrong: Marks, weights: Floats) -> Floats:
    """Compute the area under the risk-coverage curve (AURC): the mean risk over all coverages. Lower is better.

    (Geifman, Uziel, El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural classifiers".)
    This is the exact integral of `risk_coverage`, not their sum over k = 1..n of the risks at k / n: the two differ by
    O(ln(n) / n), and only the integral is unchanged if every answer is duplicated.

    Returns
    -------
    (R,)
        Equal to the error rate if the confidence is uninformative; NaN if a weighting leaves no answer.
    """
    return np.array([_area(accepted, errors) for accepted, errors in _cumulated(confidence, wrong, weights)])


def excess_aurc(confidence: Floats, wrong: Marks, weights: Floats) -> Floats:
    """Compute AURC minus its optimum at the same error rate r, which is r + (1 - r) ln(1 - r); 0 is best.

    (E-AURC: Geifman, Uziel, El-Yaniv 2019.)
    """
    rate = ratio(weights @ wrong, weights.sum(axis=1))
    best: Floats = rate + xlogy(1 - rate, 1 - rate)
    return aurc(confidence, wrong, weights) - best


def accuracy_at(confidence: Floats, wrong: Marks, weights: Floats, coverage: float) -> Floats:
    """Compute the accuracy (R,) of the most confident answers at a coverage."""
    return 1 - risk_coverage(confidence, wrong, weights, np.array([coverage]))[:, 0]


def selective_metrics(probabilities: Floats, labels: Labels) -> dict[str, Callable[[Floats], Floats]]:
    """Bind each metric to the cases; each then maps weights (R, n) to values (R,).

    `aurc`, `excess_aurc`, and the accuracy at each coverage of `FIXED` ("accuracy_at_0.8").
    """
    answers = answers_of(probabilities, labels)
    metrics: dict[str, Callable[..., Floats]] = {"aurc": aurc, "excess_aurc": excess_aurc}
    metrics |= {f"accuracy_at_{coverage:g}": partial(accuracy_at, coverage=coverage) for coverage in FIXED}
    return {
        name: partial(_of_answers, partial(metric, answers.confidence, answers.wrong), answers)
        for name, metric in metrics.items()
    }


def selective_table(
    probabilities: Floats,
    labels: Labels,
    weights: Floats,
    confidence: float,
    *,
    coverages: Sequence[float] = COVERAGES,
) -> pd.DataFrame:
    """Tabulate the risk-coverage curve, one row per coverage.

    Each coverage is reached by ranking the cases themselves; `abstention_table` evaluates rules that were set before.

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int or (n, K) float
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`.
    confidence : float
        Level of the pointwise intervals.
    coverages : sequence of float
        Above 0, at most 1.

    Returns
    -------
    pandas.DataFrame
        Columns `coverage`, `n` (number of accepted answers, rounded), `risk, risk_lower, risk_upper`.
    """
    answers, grid = answers_of(probabilities, labels), np.asarray(coverages, dtype=np.float64)
    curve = partial(risk_coverage, answers.confidence, answers.wrong, coverages=grid)
    risks = _of_answers(curve, answers, weights)
    n = np.rint(grid * len(answers.rows)).astype(np.int64)
    return pd.DataFrame({"coverage": grid, "n": n, **band("risk", risks, confidence)})


def abstention_threshold(confidence: Floats, coverage: float) -> float:
    """Find the largest threshold at which at least a share of these answers is given; all ties are given.

    Parameters
    ----------
    confidence : (m,)
        Confidence on development cases; no labels are needed.
    coverage : float
        Above 0, at most 1.

    Returns
    -------
    float
        NaN without answers.

    Raises
    ------
    ValueError
        If the coverage is not above 0 and at most 1.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage: {coverage:g} is out of range; choose a share above 0 and at most 1")
    if not len(confidence):
        return float("nan")
    return float(np.sort(confidence)[-needed(coverage, len(confidence))])


def abstention_table(
    probabilities: Floats,
    labels: Labels,
    folds: NDArray[np.str_],
    *,
    development: Mapping[str, tuple[Floats, Labels]],
    weights: Floats,
    confidence: float,
    coverages: Sequence[float] = FIXED,
) -> pd.DataFrame:
    """Evaluate abstention thresholds on cases on which they were not set, one row per target coverage.

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int or (n, K) float
    folds : (n,)
        Fold whose threshold applies to each case; the same for all cases of a test set.
    development : mapping
        Fold to probabilities (k, K) and labels of other patients, from the calibrator that evaluates the fold.
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`.
    confidence : float
        Level of the intervals.
    coverages : sequence of float
        Above 0, at most 1.

    Returns
    -------
    pandas.DataFrame
        Columns `aimed_at`, `threshold` (median over folds) with `threshold_lowest` and `threshold_highest`, `n` answers
        of which `given` are given, and the observed `coverage` and `risk`, each with `_lower` and `_upper`. Metrics are
        empty if a fold has no threshold.

    Raises
    ------
    ValueError
        If a coverage is out of range.
    """
    answers = answers_of(probabilities, labels)
    of_answer = folds[answers.rows]
    elsewhere = {fold: (answers_of(some, truth).confidence,) for fold, (some, truth) in development.items()}
    rows: list[dict[str, Any]] = []
    for coverage in coverages:
        thresholds = chosen_elsewhere(partial(abstention_threshold, coverage=coverage), of_answer, elsewhere)
        given = called(answers.confidence, thresholds)
        metrics = {
            "coverage": partial(_of_answers, partial(share, given, np.ones(len(given))), answers),
            "risk": partial(_of_answers, partial(share, answers.wrong, given), answers),
        }
        columns = in_columns({name: vars(one) for name, one in estimate_all(metrics, weights, confidence).items()})
        counts = {"n": len(given), "given": int(np.nansum(given))}
        rows.append({"aimed_at": coverage, **threshold_columns(thresholds, of_answer), **counts, **columns})
    return pd.DataFrame(rows)


def _of_answers(metric: Callable[[Floats], Floats], answers: Answers, weights: Floats) -> Floats:
    """Compute a metric (R,) with the weight of its case for each answer, in blocks to limit memory."""
    starts = range(0, len(weights), BLOCK)
    return np.concatenate([metric(weights[start : start + BLOCK][:, answers.rows]) for start in starts])


def _cumulated(confidence: Floats, wrong: Marks, weights: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Yield per weighting the cumulative answers and errors in descending confidence, at the end of every tie."""
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.diff(confidence[order], append=-np.inf))
    errs = wrong[order]
    for row in weights:
        drawn = row[order]
        accepted, errors = np.cumsum(drawn)[ends], np.cumsum(drawn * errs)[ends]
        new = np.diff(accepted, prepend=0) > 0
        yield accepted[new], errors[new]


def _area(accepted: Floats, errors: Floats) -> float:
    """Integrate errors(a) / a over a, with errors linear between ties, divided by the number of answers."""
    if not len(accepted):
        return float("nan")
    slope = np.diff(errors) / np.diff(accepted)
    bends = (errors[:-1] - slope * accepted[:-1]) * np.log(accepted[1:] / accepted[:-1])
    return float((errors[-1] + bends.sum()) / accepted[-1])
