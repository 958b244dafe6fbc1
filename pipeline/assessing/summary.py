"""All the figures of one set of cases, each with its interval, its n and its events."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.assessing import metrics
from pipeline.assessing.bootstrap import Estimate, cluster_weights, estimate, estimate_all

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FIGURES = (
    "auc",
    "accuracy",
    "sensitivity",
    "specificity",
    "log_loss",
    "brier",
    "ece",
    "calibration_intercept",
    "calibration_slope",
)


class BadProbabilities(ValueError):
    """Probabilities that are not finite or do not sum to one; never dropped in silence."""


def summarise(
    probabilities: Floats,
    labels: Ints,
    patients: NDArray[np.str_],
    bins: int,
    replicates: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Compute every figure of a set of cases.

    Parameters
    ----------
    probabilities : (n, K)
        Rows sum to one.
    labels : (n,) int
    patients : (n,)
        The unit that is drawn in the bootstrap.
    bins : int
        Of the calibration error.

    Returns
    -------
    dict
        One entry of `value, lower, upper` per figure, the calibration error to be expected of perfect forecasts
        (`ece_if_perfect`: mean, and 95th percentile as upper), and the counts `n`, `patients`, `events` (cases of
        the last of two classes, of the most frequent class else).

    Raises
    ------
    BadProbabilities
        If a probability is not finite or a row does not sum to one.
    """
    check_probabilities(probabilities)
    weights = cluster_weights(patients, replicates, seed)
    found = estimate_all(figures_of(probabilities, labels, bins), weights, confidence)
    confidence_of, _ = metrics.judged_confidence(probabilities, labels)
    perfect = metrics.calibration_error_if_perfect(confidence_of, bins, 1000, seed)
    null = Estimate(float(perfect.mean()), float(np.quantile(perfect, 0.05)), float(np.quantile(perfect, 0.95)))
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    return {
        **{name: found[name].as_json() for name in FIGURES if name in found},
        "ece_if_perfect": null.as_json(),
        "n": len(labels),
        "patients": len(set(patients)),
        "events": int(counts[1] if len(counts) == 2 else counts.max()),
    }


def figures_of(probabilities: Floats, labels: Ints, bins: int) -> dict[str, Callable[[Floats], Floats]]:
    """Name each figure and bind it to the cases; what is left open is the weights."""
    confidence, events = metrics.judged_confidence(probabilities, labels)
    figures: dict[str, Callable[[Floats], Floats]] = {
        "auc": partial(metrics.macro_auc, probabilities, labels),
        "accuracy": partial(metrics.accuracy, probabilities, labels),
        "sensitivity": partial(metrics.sensitivity, probabilities, labels),
        "specificity": partial(metrics.specificity, probabilities, labels),
        "log_loss": partial(metrics.log_loss, probabilities, labels),
        "brier": partial(metrics.brier, probabilities, labels),
        "ece": partial(metrics.calibration_error, confidence, events, bins=bins),
    }
    if probabilities.shape[1] == 2:
        figures["calibration_intercept"] = partial(metrics.calibration_in_the_large, confidence, events)
        figures["calibration_slope"] = partial(metrics.calibration_slope, confidence, events)
    else:
        figures["calibration_slope"] = partial(metrics.multiclass_slope, probabilities, labels)
    return figures


def check_probabilities(probabilities: Floats) -> None:
    """Make sure that every row is a distribution."""
    if not np.isfinite(probabilities).all():
        raise BadProbabilities(
            f"{int((~np.isfinite(probabilities)).any(axis=1).sum())} cases have probabilities that are not finite"
        )
    off = np.abs(probabilities.sum(axis=1) - 1).max() if len(probabilities) else 0.0
    if off > 1e-6 or (probabilities < 0).any():
        raise BadProbabilities(f"probabilities do not sum to one (off by {off:.2g})")


def reliability(probabilities: Floats, labels: Ints, bins: int) -> pd.DataFrame:
    """Table of the reliability diagram: per occupied bin the mean forecast, the observed share, its 95 % interval, n.

    The interval is Wilson's (1927), on cases.
    """
    confidence, events = metrics.judged_confidence(probabilities, labels)
    rows = []
    for number in range(bins):
        inside = metrics.bin_of(confidence, bins) == number
        n = int(inside.sum())
        if n:
            lower, upper = wilson(int(events[inside].sum()), n)
            rows.append((float(confidence[inside].mean()), float(events[inside].mean()), lower, upper, n))
    return pd.DataFrame(rows, columns=["forecast", "observed", "lower", "upper", "n"])


def wilson(events: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion."""
    centre = (events + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(events * (n - events) / n + z * z / 4)
    return float(max(centre - half, 0)), float(min(centre + half, 1))


def per_class(
    probabilities: Floats,
    labels: Ints,
    patients: NDArray[np.str_],
    classes: list[str],
    replicates: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Table per class: n, one-versus-rest AUC (bootstrap interval) and sensitivity (Wilson's 95 % interval)."""
    weights = cluster_weights(patients, replicates, seed)
    found = probabilities.argmax(axis=1)
    rows = []
    for number, name in enumerate(classes):
        truth = labels == number
        auc = estimate(partial(metrics.roc_auc, probabilities[:, number], truth), weights, confidence)
        lower, upper = wilson(int((truth & (found == number)).sum()), int(truth.sum())) if truth.any() else (None, None)
        recall = float((found[truth] == number).mean()) if truth.any() else None
        rows.append((name, int(truth.sum()), auc.value, auc.lower, auc.upper, recall, lower, upper))
    columns = ["class", "n", "auc", "auc_lower", "auc_upper", "sensitivity", "sensitivity_lower", "sensitivity_upper"]
    return pd.DataFrame(rows, columns=columns)


def site_baseline(train_sites: list[str], train_labels: Ints, sites: list[str], n_classes: int) -> Floats:
    """Forecast from the site alone: the class shares of the training cases of that site (Laplace-smoothed).

    A classifier that hardly beats it may have learned where an image comes from, not what it shows.
    """
    table = np.ones((len(sites), n_classes)) / n_classes
    known = np.array(train_sites)
    for row, site in enumerate(sites):
        counts = np.bincount(train_labels[known == site], minlength=n_classes) + 1
        table[row] = counts / counts.sum()
    return table
