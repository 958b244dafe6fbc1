"""Two runs on the same cases: by how much one is better in each metric, and what difference could have shown."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import multilabel
from pipeline.metrics.bootstrap import Bootstrap, Estimate, distance_estimate, estimate_all
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.paired_tests import NO_SPREAD, Difference, Metric, paired_difference
from pipeline.metrics.summary import metrics_of

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

METRICS = ("auc", "log_loss", "brier", "calibration_slope", "ece")


@dataclass(frozen=True)
class Settings:
    """Settings of the metrics and their intervals: the bins of the calibration error, and the bootstrap."""

    bins: int
    bootstrap: Bootstrap


@dataclass(frozen=True)
class Predictions:
    """What a run prediction for a set of cases.

    Attributes
    ----------
    units : (n,) str
        The name of what is evaluated, a case or a patient; each stands once.
    patients : (n,) str
        The unit of every interval.
    labels : (n,) int or (n, K) float
        Numbers of classes; or, where each label stands by itself, 1, 0 and NaN for not known.
    probabilities : (n, K)
    """

    units: Names
    patients: Names
    labels: Labels
    probabilities: Floats

    def at(self, rows: NDArray[np.int64]) -> "Predictions":
        """Keep these rows, in their order."""
        return Predictions(self.units[rows], self.patients[rows], self.labels[rows], self.probabilities[rows])


@dataclass(frozen=True)
class Compared:
    """One metric of a run beside the reference's.

    Attributes
    ----------
    better_by : Difference or None
        How much better the run is: positive is better whatever the metric. None where the cases are not the same.
    """

    metric: str
    reference: Estimate
    run: Estimate
    better_by: Difference | None = None

    @property
    def verdict(self) -> str:
        """Say what the interval of the difference allows to be said."""
        found = self.better_by
        if found is None or found.lower is None or found.upper is None:
            return "not computable" if found else "not compared"
        if max(abs(found.lower), abs(found.upper)) < NO_SPREAD:
            return "the same"
        return "better" if found.lower > 0 else "worse" if found.upper < 0 else "no evidence"


def in_common(reference: Predictions, run: Predictions) -> tuple[Predictions, Predictions]:
    """Keep, in one order, what both evaluated by the same label.

    Raises
    ------
    ValueError
        If one of them evaluated a case twice, so that it is not known which prediction is meant.
    """
    for one in (reference, run):
        if len(np.unique(one.units)) < len(one.units):
            raise ValueError("a case is evaluated twice")
    _, here, there = np.intersect1d(reference.units, run.units, assume_unique=True, return_indices=True)
    a, b = reference.labels[here], run.labels[there]
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    same = same if same.ndim == 1 else same.all(axis=1)
    return reference.at(here[same]), run.at(there[same])


def paired(reference: Predictions, run: Predictions, settings: Settings) -> list[Compared]:
    """Compare every metric of two runs on the same cases, as `in_common` gives them, drawing patients.

    A difference says how much better the run is: AUC less the reference's; the reference's log-loss, Brier score and
    calibration error less the run's; and so the distance of the calibration slope from 1.
    """
    weights = settings.bootstrap.weights(reference.patients)
    before, after = (_estimates(one, weights, settings) for one in (reference, run))
    worse, better = (_losses(one, settings.bins) for one in (reference, run))
    return [
        Compared(
            name,
            before[name],
            after[name],
            paired_difference(worse[name], better[name], weights, settings.bootstrap.confidence),
        )
        for name in METRICS
    ]


def unpaired(reference: Predictions, run: Predictions, settings: Settings) -> list[Compared]:
    """Set the metrics of two runs, each on its own cases, beside each other; no difference is computed."""
    before, after = (_estimates(one, settings.bootstrap.weights(one.patients), settings) for one in (reference, run))
    return [Compared(name, before[name], after[name]) for name in METRICS]


def _estimates(predictions: Predictions, weights: Floats, settings: Settings) -> dict[str, Estimate]:
    found = estimate_all(_metrics(predictions, settings.bins), weights, settings.bootstrap.confidence)
    return found | {"ece": distance_estimate(found["ece"])}


def _metrics(predictions: Predictions, bins: int) -> dict[str, Metric]:
    """Bind each metric to the cases, as the summary of a run does."""
    probabilities, labels = predictions.probabilities, predictions.labels
    if labels.ndim == 1:
        known = metrics_of(probabilities, labels, bins)
        return {name: known[name] for name in METRICS}
    of_label = multilabel.metrics_of_label(bins)
    return {name: partial(multilabel.macro, of_label[name], probabilities, labels) for name in METRICS}


def _losses(predictions: Predictions, bins: int) -> dict[str, Metric]:
    """Bind each metric, turned into one of which less is better."""
    return {name: _as_loss(name, metric) for name, metric in _metrics(predictions, bins).items()}


def _as_loss(name: str, metric: Metric) -> Metric:
    if name == "auc":
        return lambda weights: -metric(weights)
    if name == "calibration_slope":
        return lambda weights: np.abs(metric(weights) - 1)
    return metric
