"""The reference of monitoring: predictions of development cases by models that were not trained on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.imaging.labels import LOG_HAZARD, VALUE
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.questions import questions_of
from pipeline.metrics.survival.cox import baseline_hazard

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMALLEST = 1e-12  # of a probability whose logarithm is taken
DIGITS = 6
GRID = 21  # times at which a cumulative hazard is told


def reference_of(
    predictions: pd.DataFrame, labels: Labels, classes: Sequence[str], scans: int, refused: int
) -> dict[str, Any]:
    """Collect sorted values of one scan of each patient, without names.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Development cases with columns patient, ood_score, and probability_0, ... in the order of `classes`.
    labels : (n,) int or (n, C) float
        Numbers of their classes; for a multilabel task 1, 0, and NaN for not known.
    classes : sequence of str
    scans, refused : int
        Number of scans in the cohort, and of those that could not be read.

    Returns
    -------
    dict
        `patients`; `scans` and `refused`; `predictions`, by class the sorted probabilities; `ood_score`, sorted;
        `log_loss`, sorted; for a multilabel task by label. Of exclusive classes also `prevalences`, the shares of
        patients, `prevalences_of_images`, and `of_class`, the sorted probabilities by true class, as `predictions`.
    """
    one_each = (~predictions["patient"].duplicated()).to_numpy()
    first, several = predictions[one_each], labels.ndim == 2
    values = first[[f"probability_{number}" for number in range(len(classes))]].to_numpy()
    losses = {name: in_order(loss) for name, (loss, _) in losses_of(values, labels[one_each], classes).items()}
    named = monitored_classes(classes, several)
    by_class = {} if several else by_true_class(values, labels[one_each], classes)
    if not several:
        by_class["prevalences_of_images"] = shares_of(labels, classes)
    predicted = {name: values[:, classes.index(name)] for name in named}
    known = _of_scans(predicted, first["ood_score"], scans, refused)
    return known | {"log_loss": losses if several else losses[""], **by_class}


def reference_of_numbers(
    predictions: pd.DataFrame, true: Floats, limits: tuple[Floats, Floats], scans: int, refused: int
) -> dict[str, Any]:
    """Collect sorted values of one scan of each patient, without names, for a regression.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Development cases (n) with columns patient, ood_score and value.
    true : (n,)
    limits : two of (n,)
        Lower and upper limits of the intervals; NaN without any.
    scans, refused : int
        As in `reference_of`.

    Returns
    -------
    dict
        `patients`, `scans`, `refused`, `predictions` of `value` and `ood_score` as in `reference_of`; `errors` and
        `sizes`, see `errors_of`, sorted.
    """
    kept = (~predictions["patient"].duplicated()).to_numpy()
    first = predictions[kept]
    values = first[VALUE].to_numpy(dtype=float)
    errors, sizes = errors_of(true[kept], values, limits[0][kept], limits[1][kept])
    known = _of_scans({VALUE: values}, first["ood_score"], scans, refused)
    return known | {"errors": in_order(errors), "sizes": in_order(sizes)}


def reference_of_times(
    predictions: pd.DataFrame, times: Floats, events: NDArray[np.bool_], scans: int, refused: int
) -> dict[str, Any]:
    """Collect sorted values of one scan of each patient, without names, for survival.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Development cases (n) with columns patient, ood_score and log_hazard.
    times, events : (n,)
    scans, refused : int
        As in `reference_of`.

    Returns
    -------
    dict
        `patients`, `scans`, `refused`, `predictions` of `log_hazard` and `ood_score` as in `reference_of`; `hazard`,
        the cumulative hazard (`values`) of a log hazard of 0 at equal steps of time (`times`).
    """
    kept = (~predictions["patient"].duplicated()).to_numpy()
    first = predictions[kept]
    hazards = first[LOG_HAZARD].to_numpy(dtype=float)
    curve = baseline_hazard(hazards, times[kept], events[kept])
    last = float(f"{np.quantile(times[kept][events[kept]], 0.9):.2g}")
    at = np.linspace(0, last, GRID)[1:]  # equal steps, from which no time of a patient can be recovered
    known = _of_scans({LOG_HAZARD: hazards}, first["ood_score"], scans, refused)
    return known | {"hazard": {"times": at.tolist(), "values": curve.at(at).round(DIGITS).tolist()}}


def _of_scans(predicted: Mapping[str, Floats], ood_scores: Any, scans: int, refused: int) -> dict[str, Any]:
    return {
        "patients": len(ood_scores),
        "scans": scans,
        "refused": refused,
        "predictions": {name: in_order(values) for name, values in predicted.items()},
        "ood_score": in_order(ood_scores),
    }


def errors_of(true: Floats, predicted: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Compute errors (n,), predicted less true number, and their sizes (n,), as shares of half of the interval.

    Without intervals (NaN) the size is that of the error, in the unit of the number.
    """
    errors = predicted - true
    reach = np.where(upper > lower, (upper - lower) / 2, 1.0)
    return errors, np.abs(errors) / reach


def by_true_class(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """Collect the share of each class, and the sorted probabilities (n, K) of its patients."""
    named = monitored_classes(classes, several=False)
    of_class = {
        truth: {name: in_order(probabilities[labels == number, classes.index(name)]) for name in named}
        for number, truth in enumerate(classes)
    }
    return {"prevalences": shares_of(labels, classes), "of_class": of_class}


def shares_of(labels: Labels, classes: Sequence[str]) -> dict[str, float]:
    """Compute the share of each class among labels (n,)."""
    return {truth: round(float(np.mean(labels == number)), DIGITS) for number, truth in enumerate(classes)}


def monitored_classes(classes: Sequence[str], several: bool) -> Sequence[str]:
    """Name the classes whose predictions are monitored; of two exclusive classes, the second is enough."""
    return classes[1:] if len(classes) == 2 and not several else classes


def losses_of(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> dict[str, tuple[Floats, Ints]]:
    """Compute the losses (m,) of predictions (n, K), and the rows of their cases, by label ("" if exclusive).

    A label that is not known of any case has no losses.
    """
    if labels.ndim == 1:
        cases = np.arange(len(labels))
        return {"": (log_loss(probabilities[cases, labels]), cases)}
    questions = questions_of(probabilities, labels, classes)
    return {
        one.name: (log_loss(np.where(one.events, one.prediction, 1 - one.prediction)), one.rows) for one in questions
    }


def log_loss(probability: Any) -> Any:
    """Compute the logarithmic loss, in nats, of the probabilities of the observed outcomes (n,)."""
    return -np.log(np.maximum(probability, SMALLEST))


def in_order(values: Any) -> list[float]:
    """Sort and round, so that no row can be recovered."""
    return sorted(np.round(values, DIGITS).tolist())
