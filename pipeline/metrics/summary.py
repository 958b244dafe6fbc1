"""All the metrics of one set of cases, each with its interval, its n and its events."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics import calibration, discrimination
from pipeline.metrics.bootstrap import Bootstrap, Estimate, distance_estimate, estimate, estimate_all

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = discrimination.Labels
METRICS = (
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
IN_SHORT = ("auc", "log_loss", "brier", "calibration_slope", "ece")
OF_GRADES = ("quadratic_kappa", "grade_error")


def limits_of(*metrics: str) -> list[str]:
    """Name the three columns of each metric in a table: its value and the limits of its interval."""
    return [f"{metric}{limit}" for metric in metrics for limit in ("", "_lower", "_upper")]


OF_A_SITE = ["n", "patients", "events", *limits_of("auc", "log_loss", "calibration_slope"), "worst_recall"]


class BadProbabilities(ValueError):
    """Probabilities that are not finite or do not sum to one; never dropped in silence."""


def summarise(
    probabilities: Floats,
    labels: Ints,
    patients: NDArray[np.str_],
    *,
    bins: int,
    bootstrap: Bootstrap,
    ordinal: bool = False,
) -> dict[str, Any]:
    """Compute every metric of a set of cases.

    Parameters
    ----------
    probabilities : (n, K)
        Rows sum to one.
    labels : (n,) int
    patients : (n,)
        The unit that is drawn in the bootstrap.
    bins : int
        Of the calibration error.
    bootstrap : Bootstrap
    ordinal : bool
        Whether the classes are grades in order; then with `quadratic_kappa` and `grade_error`.

    Returns
    -------
    dict
        One entry of `value, lower, upper` per metric, the calibration error to be expected of perfect predictions
        (`ece_if_perfect`: mean, and 95th percentile as upper), and the counts `n`, `patients`, `events` (cases of
        the last of two classes, of the most frequent class else).

    Raises
    ------
    BadProbabilities
        If a probability is not finite or a row does not sum to one.
    """
    check_probabilities(probabilities)
    weights = bootstrap.weights(patients)
    found = estimate_all(metrics_of(probabilities, labels, bins, ordinal), weights, bootstrap.confidence)
    found["ece"] = distance_estimate(found["ece"])
    confidence_of, _ = calibration.evaluated_confidence(probabilities, labels)
    perfect = calibration.calibration_error_if_perfect(
        confidence_of, bins=bins, replicates=1000, seed=bootstrap.seed, patients=patients
    )
    null = Estimate(float(perfect.mean()), float(np.quantile(perfect, 0.05)), float(np.quantile(perfect, 0.95)))
    return {
        **{name: found[name].as_json() for name in (*METRICS, *OF_GRADES) if name in found},
        "ece_if_perfect": null.as_json(),
        **counts_of(labels, patients, probabilities.shape[1]),
    }


def counts_of(labels: Ints, patients: NDArray[np.str_], n_classes: int) -> dict[str, int]:
    """Count cases, patients, and events: cases of the last of two classes, of the most frequent class else."""
    counts = np.bincount(labels, minlength=n_classes)
    events = counts[1] if n_classes == 2 else counts.max()
    return {"n": len(labels), "patients": len(set(patients)), "events": int(events)}


def in_columns(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Give metrics of `value, lower, upper` the names of `limits_of`."""
    numbers = [metric[limit] for metric in metrics.values() for limit in ("value", "lower", "upper")]
    return dict(zip(limits_of(*metrics), numbers, strict=True))


def as_number(value: float) -> float | None:
    """Round to six digits; None where there is no number."""
    return round(float(value), 6) if np.isfinite(value) else None


def rows_of(metrics: Mapping[str, Any], scope: str) -> list[dict[str, Any]]:
    """Flatten the metrics of `summarise` into rows of a table."""
    counts = {"n": metrics["n"], "patients": metrics["patients"], "events": metrics["events"]}
    return [
        {"scope": scope, "metric": name, **value, **counts}
        for name, value in metrics.items()
        if isinstance(value, dict) and "value" in value
    ]


def in_short(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Take what a terminal shows of a run, by the same keys in every task and scope: counts, `IN_SHORT` with limits."""
    return {name: metrics[name] for name in ("n", "events", *IN_SHORT)}


def of_a_site(metrics: Mapping[str, Any], probabilities: Floats, labels: Labels) -> dict[str, Any]:
    """Take the columns `OF_A_SITE` from the metrics of `summarise`, and add the lowest recall of a class.

    Labels that stand each by itself (n, C) have no most probable class, and so no recall.
    """
    counts = {name: metrics[name] for name in ("n", "patients", "events")}
    known = in_columns({name: metrics[name] for name in ("auc", "log_loss", "calibration_slope")})
    worst = None if labels.ndim == 2 else as_number(np.nanmin(recalls(probabilities, labels)))
    return {**counts, **known, "worst_recall": worst}


def of_a_repetition(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Take n, events, AUC and log-loss with their intervals, in columns, from the metrics of `summarise`."""
    counts = {name: metrics[name] for name in ("n", "events")}
    return counts | in_columns({name: metrics[name] for name in ("auc", "log_loss")})


def metrics_of(
    probabilities: Floats, labels: Ints, bins: int, ordinal: bool = False
) -> dict[str, Callable[[Floats], Floats]]:
    """Name each metric and bind it to the cases; what is left open is the weights."""
    confidence, events = calibration.evaluated_confidence(probabilities, labels)
    metrics: dict[str, Callable[[Floats], Floats]] = {
        "auc": partial(discrimination.macro_auc, probabilities, labels),
        "accuracy": partial(discrimination.accuracy, probabilities, labels),
        "sensitivity": partial(discrimination.sensitivity, probabilities, labels),
        "specificity": partial(discrimination.specificity, probabilities, labels),
        "log_loss": partial(discrimination.log_loss, probabilities, labels),
        "brier": partial(discrimination.brier, probabilities, labels),
        "ece": partial(calibration.calibration_error, confidence, events, bins=bins),
    }
    if probabilities.shape[1] == 2:
        metrics["calibration_intercept"] = partial(calibration.calibration_in_the_large, confidence, events)
        metrics["calibration_slope"] = partial(calibration.calibration_slope, confidence, events)
    else:
        metrics["calibration_slope"] = partial(calibration.multiclass_slope, probabilities, labels)
    if ordinal:
        metrics["quadratic_kappa"] = partial(discrimination.quadratic_kappa, probabilities, labels)
        metrics["grade_error"] = partial(discrimination.grade_error, probabilities, labels)
    return metrics


def check_probabilities(probabilities: Floats) -> None:
    """Make sure that every row is a distribution."""
    if not np.isfinite(probabilities).all():
        raise BadProbabilities(
            f"{int((~np.isfinite(probabilities)).any(axis=1).sum())} cases have probabilities that are not finite"
        )
    off = np.abs(probabilities.sum(axis=1) - 1).max() if len(probabilities) else 0.0
    if off > 1e-6 or (probabilities < 0).any():
        raise BadProbabilities(f"probabilities do not sum to one (off by {off:.2g})")


def reliability(probabilities: Floats, labels: Labels, bins: int) -> pd.DataFrame:
    """Table of the reliability diagram: per occupied bin the mean prediction, the observed share, its 95 % interval, n.

    The interval is Wilson's (1927), on cases; on known pairs where labels stand each by itself (n, C).
    """
    confidence, events = calibration.evaluated_confidence(probabilities, labels)
    rows = []
    for number in range(bins):
        inside = calibration.bin_of(confidence, bins) == number
        n = int(inside.sum())
        if n:
            lower, upper = wilson(int(events[inside].sum()), n)
            rows.append((float(confidence[inside].mean()), float(events[inside].mean()), lower, upper, n))
    return pd.DataFrame(rows, columns=["prediction", "observed", "lower", "upper", "n"])


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
    *,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Table per class: n, one-versus-rest AUC (bootstrap interval) and sensitivity (Wilson's 95 % interval)."""
    weights = bootstrap.weights(patients)
    found = probabilities.argmax(axis=1)
    rows = []
    for number, (name, recall) in enumerate(zip(classes, recalls(probabilities, labels), strict=True)):
        truth = labels == number
        auc = estimate(partial(discrimination.roc_auc, probabilities[:, number], truth), weights, bootstrap.confidence)
        lower, upper = wilson(int((truth & (found == number)).sum()), int(truth.sum())) if truth.any() else (None, None)
        rows.append((name, int(truth.sum()), auc.value, auc.lower, auc.upper, recall, lower, upper))
    columns = ["class", "n", "auc", "auc_lower", "auc_upper", "sensitivity", "sensitivity_lower", "sensitivity_upper"]
    return pd.DataFrame(rows, columns=columns)


def recalls(probabilities: Floats, labels: Ints) -> Floats:
    """Compute the share of each class (K,) that is found at the most probable class; NaN where a class has no case."""
    hits = probabilities.argmax(axis=1) == labels
    classes = range(probabilities.shape[1])
    return np.array([hits[labels == number].mean() if (labels == number).any() else np.nan for number in classes])


def collapses(probabilities: Floats, labels: Labels, classes: list[str]) -> pd.DataFrame:
    """Table of the classes that have cases of which none is found, though the pooled metrics may look well.

    Known of adversarial alignment where sites differ in prevalence (Zhao, Combes, Zhang, Gordon 2019, "On learning
    invariant representations for domain adaptation", section 4). Columns `class, n, recall`.
    Labels that stand each by itself (n, C) have no row: the prediction of a rare one seldom passes one half, and that
    is no collapse.
    """
    if labels.ndim == 2:
        return pd.DataFrame(columns=["class", "n", "recall"])
    n = np.bincount(labels, minlength=len(classes))
    table = pd.DataFrame({"class": classes, "n": n, "recall": recalls(probabilities, labels)})
    return table[table["recall"] == 0]
