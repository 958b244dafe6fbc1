"""ROC and precision-recall curves with their bands, and the metrics at every threshold.

Weights are (R, n), and each curve is computed for all rows.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bands import band
from pipeline.metrics.discrimination import Floats, ranks_of, ratio, roc_curve
from pipeline.metrics.shares import largest_effect, share_estimate
from pipeline.metrics.summary import limits_of
from pipeline.stages.calibrate.utility import net_benefit

Marks = NDArray[np.bool_]

RATES = np.arange(41) / 40  # false-positive rates of the ROC curve; without the first, recalls of the PR curve
THRESHOLDS = np.arange(1, 100) / 100
COUNTS = ("threshold", "true_positives", "false_positives", "positives", "negatives")


def sensitivity_at(scores: Floats, events: Marks, weights: Floats, rates: Floats) -> Floats:
    """Read ROC curves at fixed false-positive rates, linearly between corners, at the top of vertical segments.

    A band of these values is "vertical averaging" (Fawcett 2006, "An introduction to ROC analysis", section 8.1). The
    area under the curve is `discrimination.roc_auc`, ties counting half.

    Parameters
    ----------
    scores : (n,)
    events : (n,) bool
    weights : (R, n), at least 0
    rates : (G,)
        False-positive rates from 0 to 1.

    Returns
    -------
    (R, G)
        NaN if a weighting leaves no event or no non-event.
    """
    called, found = (_shares_from_above(scores, weights * some) for some in (~events, events))
    at = np.full((len(weights), len(rates)), np.nan)
    for row in np.flatnonzero(np.isfinite(called[:, -1] + found[:, -1])):
        at[row] = _upper_line(called[row], found[row], rates)
    return at


def precision_at(scores: Floats, events: Marks, weights: Floats, recalls: Floats) -> Floats:
    """Read precision-recall curves at fixed recalls: the precision at the highest threshold that reaches the recall.

    Every point is attained by a threshold: linear interpolation would be too optimistic (Davis and Goadrich 2006, "The
    relationship between precision-recall and ROC curves", section 4). The area under the curve is therefore
    `discrimination.average_precision`.

    Parameters
    ----------
    scores : (n,)
    events : (n,) bool
    weights : (R, n), at least 0
    recalls : (G,)
        Above 0, at most 1.

    Returns
    -------
    (R, G)
        NaN if a weighting leaves no event.
    """
    hits, flagged = (_from_above(scores, weights * some) for some in (events, np.ones(len(events))))
    precision, found = ratio(hits, flagged), ratio(hits, hits[:, -1:])
    at = np.full((len(weights), len(recalls)), np.nan)
    for row in np.flatnonzero(np.isfinite(found[:, -1])):
        at[row] = precision[row, np.searchsorted(found[row], recalls)]
    return at


def roc_band(scores: Floats, events: Marks, weights: Floats, confidence: float) -> pd.DataFrame:
    """Tabulate the ROC curve at `RATES`, with its pointwise bootstrap band.

    Parameters
    ----------
    scores : (n,)
    events : (n,) bool
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`.
    confidence : float
        Level of the band at each point.

    Returns
    -------
    pandas.DataFrame
        Columns `false_positive_rate`, `sensitivity` with `_lower` and `_upper`, `n`, `events`.
    """
    curve = band("sensitivity", sensitivity_at(scores, events, weights, RATES), confidence)
    return pd.DataFrame({"false_positive_rate": RATES, **curve, **_sizes(events)})


def pr_band(scores: Floats, events: Marks, weights: Floats, confidence: float) -> pd.DataFrame:
    """Tabulate the precision-recall curve at `RATES` above 0; parameters as in `roc_band`.

    Returns
    -------
    pandas.DataFrame
        Columns `recall`, `precision` with `_lower` and `_upper`, `n`, `events`.
    """
    curve = band("precision", precision_at(scores, events, weights, RATES[1:]), confidence)
    return pd.DataFrame({"recall": RATES[1:], **curve, **_sizes(events)})


def roc_of_folds(scores: Floats, events: Marks, folds: NDArray[np.str_]) -> pd.DataFrame:
    """Tabulate the corners of the ROC curve of each fold that has events and non-events.

    Returns
    -------
    pandas.DataFrame
        Columns `fold`, `false_positive_rate`, `sensitivity`.
    """
    tables = [pd.DataFrame(columns=["fold", "false_positive_rate", "sensitivity"])]
    for fold in np.unique(folds):
        own = folds == fold
        if 0 < events[own].sum() < own.sum():
            wrong, right = roc_curve(scores[own], events[own])
            tables.append(pd.DataFrame({"fold": fold, "false_positive_rate": wrong, "sensitivity": right}))
    return pd.concat(tables[1:] or tables)


def threshold_table(
    prediction: Floats, events: Marks, weights: Floats, confidence: float, *, patients: NDArray[np.str_]
) -> pd.DataFrame:
    """Tabulate the counts and metrics of the decision at each of `THRESHOLDS`.

    A prediction that equals the threshold counts as positive.

    Parameters
    ----------
    prediction : (n,)
        Probabilities.
    events : (n,) bool
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`.
    confidence : float
        Level of the intervals, which treat the threshold as fixed; those of shares are of `shares.share_estimate`.
    patients : (n,)

    Returns
    -------
    pandas.DataFrame
        Columns `COUNTS` (positives and negatives are events and non-events), and `sensitivity`, `specificity`, `ppv`,
        `npv`, `net_benefit`, each with `_lower` and `_upper`; empty where a denominator is 0.
    """
    called, truth = prediction[:, None] >= THRESHOLDS, np.broadcast_to(events[:, None], (len(events), len(THRESHOLDS)))
    right, spared = called & truth, ~called & ~truth
    counted = (THRESHOLDS, right.sum(axis=0), (called & ~truth).sum(axis=0), events.sum(), (~events).sum())
    shares = {"sensitivity": (right, truth), "specificity": (spared, ~truth), "ppv": (right, called)}
    shares["npv"] = (spared, ~called)
    columns = [
        pd.DataFrame(_shares(name, of, among, patients, weights=weights, confidence=confidence))
        for name, (of, among) in shares.items()
    ]
    benefit = net_benefit(prediction, events, weights, THRESHOLDS)
    columns.append(pd.DataFrame(band("net_benefit", benefit, confidence)))
    return pd.concat([pd.DataFrame(dict(zip(COUNTS, counted, strict=True))), *columns], axis=1)


def _shares(
    name: str, marked: Marks, among: Marks, patients: NDArray[np.str_], *, weights: Floats, confidence: float
) -> dict[str, Floats]:
    """Compute a share of marked cases (n, G) among some (n, G), in the three columns of `limits_of`."""
    curve = ratio(weights @ marked, weights @ among)
    found = [
        share_estimate(values, int(some.sum()), confidence, largest_effect(patients[some]))
        for values, some in zip(curve.T, among.T, strict=True)
    ]
    columns = np.array([(one.value, one.lower, one.upper) for one in found], dtype=np.float64).reshape(-1, 3)
    return dict(zip(limits_of(name), columns.T, strict=True))


def _sizes(events: Marks) -> dict[str, int]:
    return {"n": len(events), "events": int(events.sum())}


def _from_above(scores: Floats, weights: Floats) -> Floats:
    """Compute the cumulative weights (R, unique scores) from the highest score down."""
    return np.cumsum((weights @ ranks_of(scores))[:, ::-1], axis=1)


def _shares_from_above(scores: Floats, weights: Floats) -> Floats:
    """Compute the share of the weight called positive, from none to all; NaN without weight."""
    summed = np.pad(_from_above(scores, weights), ((0, 0), (1, 0)))
    return ratio(summed, summed[:, -1:])


def _upper_line(x: Floats, y: Floats, places: Floats) -> Floats:
    """Interpolate an ascending line through points (S,) at places (G,), at the top of vertical segments."""
    last = np.searchsorted(x, places, side="right") - 1
    following = np.minimum(last + 1, len(x) - 1)
    width = x[following] - x[last]
    along = np.where(width > 0, (places - x[last]) / np.where(width > 0, width, 1), 0)
    return y[last] + np.clip(along, 0, 1) * (y[following] - y[last])
