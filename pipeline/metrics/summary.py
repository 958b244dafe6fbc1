"""Summary of a set of cases: all metrics with their intervals, and the counts of cases and events."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics import calibration, discrimination
from pipeline.metrics.bootstrap import Bootstrap, Estimate, distance_estimate, estimate_of, in_blocks, loss_estimate
from pipeline.metrics.likelihood import intercept_estimate, multiclass_slope_estimate, slope_estimate
from pipeline.metrics.shares import auc_estimate, largest_effect, share_estimate, share_of, wilson

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
    """List the three columns of each metric in a table: its value and the limits of its interval."""
    return [f"{metric}{limit}" for metric in metrics for limit in ("", "_lower", "_upper")]


OF_A_SITE = ["n", "patients", "events", *limits_of("auc", "log_loss", "calibration_slope"), "worst_recall"]


class BadProbabilities(ValueError):
    """Probabilities are not finite, not in [0, 1], or do not sum to one; such cases are never left out."""


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
        The unit that the bootstrap draws.
    bins : int
        Number of bins of the calibration error.
    bootstrap : Bootstrap
    ordinal : bool
        Whether the classes are ordered grades; if so, the result has `quadratic_kappa` and `grade_error`.

    Returns
    -------
    dict
        One entry of `value, lower, upper` per metric, the calibration error expected of perfect predictions
        (`ece_if_perfect`: mean, 5th and 95th percentile), and the counts `n`, `patients`, `events` (cases of the
        last of two classes, else of the rarest class, as the gate of a release counts them).

    Raises
    ------
    BadProbabilities
        If a probability is not finite or a row does not sum to one.
    """
    check_probabilities(probabilities)
    found = estimates_of(probabilities, labels, patients, bins=bins, bootstrap=bootstrap, ordinal=ordinal)
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


def estimates_of(
    probabilities: Floats,
    labels: Ints,
    patients: NDArray[np.str_],
    *,
    bins: int,
    bootstrap: Bootstrap,
    ordinal: bool = False,
) -> dict[str, Estimate]:
    """Estimate every metric of `metrics_of` with the interval that suits it.

    Shares have Wilson's interval (`shares.share_estimate`), intercept and slope that of the likelihood (`likelihood`),
    log-loss and Brier score that of `bootstrap.loss_estimate`, the calibration error that of
    `bootstrap.distance_estimate`, all others percentiles of patient replicates. Folds do not widen the interval of the
    intercept, because they are not coupled in the number of events.
    """
    level, weights = bootstrap.confidence, bootstrap.weights(patients)
    two = probabilities.shape[1] == 2
    likely = {"calibration_intercept", "calibration_slope"}
    metrics = metrics_of(probabilities, labels, bins, ordinal)
    values = {name: in_blocks(metric, weights) for name, metric in metrics.items() if name not in likely}
    found = {name: estimate_of(drawn, level) for name, drawn in values.items()}
    rarest = np.bincount(labels, minlength=probabilities.shape[1])[1 if two else slice(None)].argmin() + two
    found["auc"] = auc_estimate(values["auc"], labels == rarest, patients, level)
    found |= {name: loss_estimate(values[name], level) for name in ("log_loss", "brier")}
    found["ece"] = distance_estimate(found["ece"], level)
    for name, n in share_sizes(labels, probabilities.shape[1]).items():
        found[name] = share_estimate(values[name], n, level, largest_effect(patients))
    if two:
        right = probabilities.argmax(axis=1) == labels
        for name, of in (("sensitivity", labels == 1), ("specificity", labels == 0)):  # as `per_class` has them
            found[name] = share_of(right, of, patients, weights=weights, confidence=level)
        confidence, events = calibration.evaluated_confidence(probabilities, labels)
        found["calibration_intercept"] = intercept_estimate(confidence, events, patients, float(level))
        found["calibration_slope"] = slope_estimate(confidence, events, patients, level)
    else:
        found["calibration_slope"] = multiclass_slope_estimate(probabilities, labels, patients, level)
    return found


def share_sizes(labels: Ints, n_classes: int) -> dict[str, float]:
    """Count the cases of accuracy, sensitivity and specificity; of a mean over classes K^2 / sum(1 / n)."""
    counts = np.bincount(labels, minlength=n_classes)
    n = len(labels)
    if n_classes == 2:
        return {"accuracy": n, "sensitivity": int(counts[1]), "specificity": int(counts[0])}
    inside, outside = (float(n_classes**2 / (1 / some).sum()) if some.all() else 0.0 for some in (counts, n - counts))
    return {"accuracy": n, "sensitivity": inside, "specificity": outside}


def counts_of(labels: Ints, patients: NDArray[np.str_], n_classes: int) -> dict[str, int]:
    """Count cases, patients, and events: cases of the last of two classes, else of the rarest class."""
    counts = np.bincount(labels, minlength=n_classes)
    events = counts[1] if n_classes == 2 else counts.min()
    return {"n": len(labels), "patients": len(set(patients)), "events": int(events)}


def in_columns(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Flatten metrics of `value, lower, upper` into the columns of `limits_of`."""
    numbers = [metric[limit] for metric in metrics.values() for limit in ("value", "lower", "upper")]
    return dict(zip(limits_of(*metrics), numbers, strict=True))


def as_number(value: float) -> float | None:
    """Round to six digits; None if the value is not finite."""
    return round(float(value), 6) if np.isfinite(value) else None


def rows_of(metrics: Mapping[str, Any], scope: str) -> list[dict[str, Any]]:
    """Convert the metrics of `summarise` to rows of a table."""
    counts = {"n": metrics["n"], "patients": metrics["patients"], "events": metrics["events"]}
    return [
        {"scope": scope, "metric": name, **value, **counts}
        for name, value in metrics.items()
        if isinstance(value, dict) and "value" in value
    ]


def in_short(metrics: Mapping[str, Any], with_events: bool) -> dict[str, Any]:
    """Select the counts and the metrics `IN_SHORT`, which a terminal shows; one number of events suits two classes."""
    return {name: metrics[name] for name in ("n", *(["events"] if with_events else []), *IN_SHORT)}


def of_a_site(metrics: Mapping[str, Any], probabilities: Floats, labels: Labels) -> dict[str, Any]:
    """Select the columns `OF_A_SITE` from the metrics of `summarise`, and add the lowest recall of a class.

    There is no recall for a multilabel task, which has no most probable class.
    """
    counts = {name: metrics[name] for name in ("n", "patients", "events")}
    known = in_columns({name: metrics[name] for name in ("auc", "log_loss", "calibration_slope")})
    worst = None if labels.ndim == 2 else as_number(np.nanmin(recalls(probabilities, labels)))
    return {**counts, **known, "worst_recall": worst}


def of_a_repetition(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Select n, events, AUC and log-loss with their intervals, in columns, from the metrics of `summarise`."""
    counts = {name: metrics[name] for name in ("n", "events")}
    return counts | in_columns({name: metrics[name] for name in ("auc", "log_loss")})


def metrics_of(
    probabilities: Floats, labels: Ints, bins: int, ordinal: bool = False
) -> dict[str, Callable[[Floats], Floats]]:
    """Bind each metric to the cases; each then maps weights (R, n) to values (R,)."""
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
    """Check that every row is finite, not negative, and sums to one."""
    if not np.isfinite(probabilities).all():
        raise BadProbabilities(
            f"{int((~np.isfinite(probabilities)).any(axis=1).sum())} cases have probabilities that are not finite"
        )
    off = np.abs(probabilities.sum(axis=1) - 1).max() if len(probabilities) else 0.0
    if off > 1e-6 or (probabilities < 0).any():
        raise BadProbabilities(f"probabilities do not sum to one (off by {off:.2g})")


def reliability(probabilities: Floats, labels: Labels, bins: int) -> pd.DataFrame:
    """Tabulate the reliability diagram: per occupied bin the mean prediction, the event rate, its 95 % interval, and n.

    The interval is Wilson's (1927), over cases; for a multilabel task over known pairs of case and label.
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


def per_class(
    probabilities: Floats,
    labels: Ints,
    patients: NDArray[np.str_],
    classes: list[str],
    *,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Tabulate per class n, one-versus-rest AUC (`shares.auc_estimate`) and sensitivity (`shares.share_of`)."""
    weights, level = bootstrap.weights(patients), bootstrap.confidence
    found, rows = probabilities.argmax(axis=1), []
    for number, name in enumerate(classes):
        truth = labels == number
        values = in_blocks(partial(discrimination.roc_auc, probabilities[:, number], truth), weights)
        metrics = {
            "auc": auc_estimate(values, truth, patients, level),
            "sensitivity": share_of(found == number, truth, patients, weights=weights, confidence=level),
        }
        rows.append({"class": name, "n": int(truth.sum()), **in_columns({k: vars(v) for k, v in metrics.items()})})
    return pd.DataFrame(rows, columns=["class", "n", *limits_of("auc", "sensitivity")])


def recalls(probabilities: Floats, labels: Ints) -> Floats:
    """Compute the recall of each class (K,) at the most probable class; NaN for a class without cases."""
    hits = probabilities.argmax(axis=1) == labels
    classes = range(probabilities.shape[1])
    return np.array([hits[labels == number].mean() if (labels == number).any() else np.nan for number in classes])


def collapses(probabilities: Floats, labels: Labels, classes: list[str]) -> pd.DataFrame:
    """Tabulate collapsed classes: those with cases but a recall of 0, even if the pooled metrics look good.

    Adversarial alignment can cause this if sites differ in prevalence (Zhao, Combes, Zhang, Gordon 2019, "On learning
    invariant representations for domain adaptation", section 4). Columns `class, n, recall`.
    A multilabel task has no rows: the prediction for a rare label rarely exceeds one half, which is no collapse.
    """
    if labels.ndim == 2:
        return pd.DataFrame(columns=["class", "n", "recall"])
    n = np.bincount(labels, minlength=len(classes))
    table = pd.DataFrame({"class": classes, "n": n, "recall": recalls(probabilities, labels)})
    return table[table["recall"] == 0]
