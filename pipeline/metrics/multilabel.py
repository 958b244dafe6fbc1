"""The metrics of a task in which a case has any number of labels: each label by itself, then the mean over labels.

Labels are (n, C) numbers: 1 for there, 0 for not there, NaN for not known. Only known pairs of case and label count.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics import calibration, discrimination
from pipeline.metrics.bootstrap import Bootstrap, Estimate, distance_estimate, estimate, estimate_all
from pipeline.metrics.questions import both_ways
from pipeline.metrics.summary import BadProbabilities, in_columns, limits_of, wilson

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Metric = Callable[[Floats, Marks, Floats], Floats]  # predictions (n,), events (n,) and weights (R, n) to values (R,)
PER_LABEL = ["class", "n_known", "events", *limits_of("auc", "sensitivity")]


def known_pairs(probabilities: Floats, labels: Floats) -> Iterator[tuple[Marks, Floats, Marks]]:
    """Give for each label that is known of any case: the cases (n,) where it is, their predictions, their events."""
    for prediction, column in zip(probabilities.T, labels.T, strict=True):
        known = np.isfinite(column)
        if known.any():
            yield known, prediction[known], column[known] == 1


def of_each_label(metric: Metric, probabilities: Floats, labels: Floats, weights: Floats) -> Floats:
    """Compute a metric for each label by itself: (labels known of any case, R); NaN where it does not exist."""
    pairs = known_pairs(probabilities, labels)
    found = [metric(prediction, events, weights[:, known]) for known, prediction, events in pairs]
    return np.stack(found) if found else np.full((1, len(weights)), np.nan)


def macro(metric: Metric, probabilities: Floats, labels: Floats, weights: Floats) -> Floats:
    """Average a metric over the labels for which it exists, all counting the same.

    Parameters
    ----------
    metric : callable
        Predictions (m,), events (m,) and weights (R, m) to values (R,), NaN where there is none: no AUC without both
        kinds of cases, no slope where the predictions separate them.
    probabilities, labels : (n, C)
    weights : (R, n)

    Returns
    -------
    (R,)
        NaN where it exists for no label. A replicate that lacks one kind of a rare label averages the others.
    """
    found = of_each_label(metric, probabilities, labels, weights)
    there = np.isfinite(found)
    total, count = np.where(there, found, 0).sum(axis=0), there.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def macro_auc(probabilities: Floats, labels: Floats, weights: Floats) -> Floats:
    """Average the AUC over the labels of which both kinds are there."""
    return macro(discrimination.roc_auc, probabilities, labels, weights)


def log_loss(prediction: Floats, events: Marks, weights: Floats) -> Floats:
    """Mean of -ln p(what is known of the label), in nats."""
    return discrimination.log_loss(both_ways(prediction), events.astype(np.int64), weights)


def brier(prediction: Floats, events: Marks, weights: Floats) -> Floats:
    """Mean squared error of the probability, 0 to 1."""
    return discrimination.brier(both_ways(prediction), events.astype(np.int64), weights)


def metrics_of_label(bins: int) -> dict[str, Metric]:
    """Name the metrics that are taken of each label and averaged."""
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
    """Compute every metric of a set of cases, each the mean over labels of the metric of one label by itself.

    Parameters
    ----------
    probabilities : (n, C)
        Of each label by itself; rows need not sum to one.
    labels : (n, C)
        1, 0, or NaN where not known; a case of which nothing is known is left out.
    patients : (n,)
        The unit that is drawn in the bootstrap.
    names : sequence of str
        Of the labels, in the order of the columns.

    Returns
    -------
    dict
        As `summary.summarise` gives it, with `n` cases of which anything is known, `pairs` known of case and label,
        and `events`, the pairs where the label is there. `labels` counts n and events of each, and `labels_in_mean`
        says of how many labels each mean is.

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
    found = estimate_all(means, bootstrap.weights(patients), bootstrap.confidence)
    found["ece"] = distance_estimate(found["ece"])
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


def counts_of(column: Floats) -> dict[str, int]:
    """Count the cases (n,) of which one label is known, and those that have it."""
    return {"n": int(np.isfinite(column).sum()), "events": int((column == 1).sum())}


def ece_if_perfect(
    probabilities: Floats, labels: Floats, patients: NDArray[np.str_], *, bins: int, seed: int
) -> Estimate:
    """Say what the mean calibration error would be if the predictions were right: mean, 5th and 95th percentile.

    Labels are drawn independently of each other, so the percentiles are a little too close where labels go together.
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
    """Make sure that every number is a probability."""
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
    """Table per label: cases known and with it, AUC (bootstrap interval), sensitivity at one half (Wilson's 95 %).

    Columns `PER_LABEL`; a metric that does not exist for a label is empty.
    """
    weights = bootstrap.weights(patients)
    rows = []
    for name, prediction, column in zip(names, probabilities.T, labels.T, strict=True):
        known, there = np.isfinite(column), column == 1
        row: dict[str, Any] = {"class": name, "n_known": int(known.sum()), "events": int(there.sum())}
        if there.any():
            area = estimate(
                partial(discrimination.roc_auc, prediction[known], there[known]),
                weights[:, known],
                bootstrap.confidence,
            )
            row |= in_columns({"auc": asdict(area), "sensitivity": share_of(prediction[there] >= 0.5)})
        rows.append(row)
    return pd.DataFrame(rows, columns=PER_LABEL)


def share_of(marks: Marks) -> dict[str, float]:
    """Give the share of what is marked (n,) as `value`, with Wilson's 95 % interval as `lower` and `upper`."""
    lower, upper = wilson(int(marks.sum()), len(marks))
    return {"value": float(marks.mean()), "lower": lower, "upper": upper}
