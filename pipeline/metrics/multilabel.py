"""Metrics of multilabel tasks: of each label separately, then averaged over labels (macro average).

Labels are (n, C) numbers: 1 present, 0 absent, NaN not known. Only known pairs of case and label count.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics import calibration, discrimination
from pipeline.metrics.bootstrap import Bootstrap, Estimate, distance_estimate, estimate_all, in_blocks, loss_estimate
from pipeline.metrics.likelihood import slope_estimate
from pipeline.metrics.questions import both_ways
from pipeline.metrics.shares import auc_estimate, share_of
from pipeline.metrics.summary import BadProbabilities, in_columns, limits_of

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Metric = Callable[[Floats, Marks, Floats], Floats]  # predictions (n,), events (n,) and weights (R, n) to values (R,)
PER_LABEL = ["class", "n_known", "events", *limits_of("auc", "sensitivity")]


def known_pairs(probabilities: Floats, labels: Floats) -> Iterator[tuple[Marks, Floats, Marks]]:
    """Yield for each label that has known cases: the mask (n,) of these cases, their predictions, their events."""
    for prediction, column in zip(probabilities.T, labels.T, strict=True):
        known = np.isfinite(column)
        if known.any():
            yield known, prediction[known], column[known] == 1


def of_each_label(metric: Metric, probabilities: Floats, labels: Floats, weights: Floats) -> Floats:
    """Compute a metric for each label that has known cases: (labels, R); NaN where the metric does not exist."""
    pairs = known_pairs(probabilities, labels)
    found = [metric(prediction, events, weights[:, known]) for known, prediction, events in pairs]
    return np.stack(found) if found else np.full((1, len(weights)), np.nan)


def macro(metric: Metric, probabilities: Floats, labels: Floats, weights: Floats) -> Floats:
    """Compute the unweighted mean of a metric over the labels for which it exists.

    Parameters
    ----------
    metric : callable
        Maps predictions (m,), events (m,) and weights (R, m) to values (R,); NaN where the metric does not exist: no
        AUC without events or non-events, no slope if the predictions separate them.
    probabilities, labels : (n, C)
    weights : (R, n)

    Returns
    -------
    (R,)
        NaN if it exists for no label. A replicate without events of a rare label averages over the other labels.
    """
    found = of_each_label(metric, probabilities, labels, weights)
    there = np.isfinite(found)
    total, count = np.where(there, found, 0).sum(axis=0), there.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def macro_auc(probabilities: Floats, labels: Floats, weights: Floats) -> Floats:
    """Compute the mean AUC (R,) over the labels that have events and non-events."""
    return macro(discrimination.roc_auc, probabilities, labels, weights)


def log_loss(prediction: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the log-loss (R,) of one label: the mean of -ln p(true answer), in nats."""
    return discrimination.log_loss(both_ways(prediction), events.astype(np.int64), weights)


def brier(prediction: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the Brier score (R,) of one label: the mean squared error of its probability, 0 to 1."""
    return discrimination.brier(both_ways(prediction), events.astype(np.int64), weights)


def metrics_of_label(bins: int) -> dict[str, Metric]:
    """List the metrics that are computed for each label and averaged."""
    return {
        "auc": discrimination.roc_auc,
        "log_loss": log_loss,
        "brier": brier,
        "ece": partial(calibration.calibration_error, bins=bins),
        "calibration_slope": calibration.calibration_slope,
    }


def summarise_labels(
    probabilities: Floats,
    labels: Floats,
    patients: NDArray[np.str_],
    names: Sequence[str],
    *,
    bins: int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Compute every metric of a set of cases, each averaged over the labels.

    Parameters
    ----------
    probabilities : (n, C)
        Probability of each label; rows need not sum to one.
    labels : (n, C)
        1, 0, or NaN for not known; a case without any known label is left out.
    patients : (n,)
        The unit that the bootstrap draws.
    names : sequence of str
        Names of the labels, in the order of the columns.

    Returns
    -------
    dict
        As in `summary.summarise`, with the counts `n` (cases with a known label), `pairs` (known pairs of case and
        label) and `events` (pairs whose label is present). `labels` counts n and events of each label, and
        `labels_in_mean` the labels over which each metric is averaged.

    Raises
    ------
    BadProbabilities
        If a probability is not finite or not between 0 and 1.
    """
    check_each_probability(probabilities)
    used = np.isfinite(labels).any(axis=1)
    probabilities, labels, patients = probabilities[used], labels[used], patients[used]
    metrics, once = metrics_of_label(bins), np.ones((1, len(labels)))
    means = {name: partial(macro, metric, probabilities, labels) for name, metric in metrics.items()}
    weights = bootstrap.weights(patients)
    found = estimate_all(means, weights, bootstrap.confidence)
    found |= losses(means, weights, bootstrap.confidence)
    found["ece"] = distance_estimate(found["ece"], bootstrap.confidence)
    found["calibration_slope"] = mean_slope(probabilities, labels, patients, bootstrap.confidence)
    existing = {name: of_each_label(metric, probabilities, labels, once) for name, metric in metrics.items()}
    return {
        **{name: one.as_json() for name, one in found.items()},
        "ece_if_perfect": ece_if_perfect(probabilities, labels, patients, bins=bins, seed=bootstrap.seed).as_json(),
        "n": len(labels),
        "patients": len(set(patients)),
        "events": int((labels == 1).sum()),
        "pairs": int(np.isfinite(labels).sum()),
        "labels": {name: counts_of(column) for name, column in zip(names, labels.T, strict=True)},
        "labels_in_mean": {name: int(np.isfinite(values).sum()) for name, values in existing.items()},
    }


def losses(means: Mapping[str, Callable[[Floats], Floats]], weights: Floats, confidence: float) -> dict[str, Estimate]:
    """Estimate the mean losses by `bootstrap.loss_estimate`."""
    return {name: loss_estimate(in_blocks(means[name], weights), confidence) for name in ("log_loss", "brier")}


def mean_slope(probabilities: Floats, labels: Floats, patients: NDArray[np.str_], confidence: float) -> Estimate:
    """Estimate the mean calibration slope over the labels that have one, from their likelihood intervals.

    The limits are those of Zou and Donner 2008 ("Construction of confidence limits about effect measures: a general
    approach"): distances from estimate to limit are added as the errors of independent labels are.
    """
    pairs = known_pairs(probabilities, labels)
    each = [slope_estimate(prediction, events, patients[known], confidence) for known, prediction, events in pairs]
    ends = np.array([list(vars(one).values()) for one in each if None not in vars(one).values()])
    if not len(ends):
        return Estimate(None, None, None)
    value, below, above = ends[:, 0].mean(), ends[:, 0] - ends[:, 1], ends[:, 2] - ends[:, 0]
    lower, upper = (float(np.sqrt((part**2).sum()) / len(ends)) for part in (below, above))
    return Estimate(float(value), float(value) - lower, float(value) + upper)


def counts_of(column: Floats) -> dict[str, int]:
    """Count the cases for which a label (n,) is known, and those for which it is present."""
    return {"n": int(np.isfinite(column).sum()), "events": int((column == 1).sum())}


def ece_if_perfect(
    probabilities: Floats, labels: Floats, patients: NDArray[np.str_], *, bins: int, seed: int
) -> Estimate:
    """Estimate the mean calibration error under perfect calibration: its mean, 5th and 95th percentile.

    Labels are drawn independently of each other, so the percentiles are slightly too narrow if labels are correlated.
    """
    draws = [
        calibration.calibration_error_if_perfect(
            prediction, bins=bins, replicates=1000, seed=seed + number, patients=patients[known]
        )
        for number, (known, prediction, _) in enumerate(known_pairs(probabilities, labels))
    ]
    if not draws:
        return Estimate(None, None, None)
    perfect = np.mean(draws, axis=0)
    return Estimate(float(perfect.mean()), float(np.quantile(perfect, 0.05)), float(np.quantile(perfect, 0.95)))


def check_each_probability(probabilities: Floats) -> None:
    """Check that every value is a probability."""
    if not np.isfinite(probabilities).all():
        count = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise BadProbabilities(f"{count} cases have probabilities that are not finite")
    if (probabilities < 0).any() or (probabilities > 1).any():
        raise BadProbabilities("a probability is not between 0 and 1")


def per_label(
    probabilities: Floats,
    labels: Floats,
    patients: NDArray[np.str_],
    names: Sequence[str],
    *,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Tabulate per label known cases and events, AUC, and sensitivity at one half; intervals of `shares`.

    Columns `PER_LABEL`; a metric that does not exist for a label is empty.
    """
    weights = bootstrap.weights(patients)
    rows = []
    for name, prediction, column in zip(names, probabilities.T, labels.T, strict=True):
        known, there = np.isfinite(column), column == 1
        row: dict[str, Any] = {"class": name, "n_known": int(known.sum()), "events": int(there.sum())}
        if there.any():
            values = in_blocks(partial(discrimination.roc_auc, prediction[known], there[known]), weights[:, known])
            metrics = {
                "auc": auc_estimate(values, there[known], patients[known], bootstrap.confidence),
                "sensitivity": share_of(
                    prediction >= 0.5, there, patients, weights=weights, confidence=bootstrap.confidence
                ),
            }
            row |= in_columns({name_of: asdict(metric) for name_of, metric in metrics.items()})
        rows.append(row)
    return pd.DataFrame(rows, columns=PER_LABEL)
