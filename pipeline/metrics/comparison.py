"""Comparison of two runs: the paired difference of each metric on the same cases, and the detectable difference."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import multilabel
from pipeline.metrics.bootstrap import Bootstrap, Estimate, distance_estimate, estimate_all
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.paired_tests import NO_SPREAD, Difference, Metric, paired_difference
from pipeline.metrics.summary import estimates_of, metrics_of

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
    """The predictions of a run for a set of cases.

    Attributes
    ----------
    units : (n,) str
        Unique name of what is evaluated: a case or a patient.
    patients : (n,) str
        The unit of every interval.
    labels : (n,) int or (n, K) float
        Class numbers; of a multilabel task 1, 0, and NaN for not known.
    probabilities : (n, K)
    folds : (n,) str
        The fold that held each case out; one name if a single model evaluated all cases.
    cross_fitted : bool
        Whether each fold was calibrated by a calibrator that was fitted on the others.
    """

    units: Names
    patients: Names
    labels: Labels
    probabilities: Floats
    folds: Names
    cross_fitted: bool = False

    def at(self, rows: NDArray[np.int64]) -> "Predictions":
        """Select rows, in the given order."""
        return Predictions(
            self.units[rows],
            self.patients[rows],
            self.labels[rows],
            self.probabilities[rows],
            folds=self.folds[rows],
            cross_fitted=self.cross_fitted,
        )


@dataclass(frozen=True)
class Compared:
    """One metric of a run and of the reference run.

    Attributes
    ----------
    better_by : Difference or None
        Improvement over the reference, positive if the run is better, for every metric. None if the cases differ.
    """

    metric: str
    reference: Estimate
    run: Estimate
    better_by: Difference | None = None

    @property
    def verdict(self) -> str:
        """Give the conclusion that the interval of the difference allows."""
        found = self.better_by
        if found is None or found.lower is None or found.upper is None:
            return "not computable" if found else "not compared"
        if max(abs(found.lower), abs(found.upper)) < NO_SPREAD:
            return "the same"
        return "better" if found.lower > 0 else "worse" if found.upper < 0 else "no evidence"


def in_common(reference: Predictions, run: Predictions) -> tuple[Predictions, Predictions]:
    """Select the cases that both runs evaluated with the same label, in the same order.

    Raises
    ------
    ValueError
        If a run evaluated a case twice, so that its prediction is ambiguous.
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
    """Compare every metric of two runs on the same cases, see `in_common`, by a paired patient bootstrap.

    A difference is the improvement of the run: its AUC minus that of the reference; and the log-loss, Brier score,
    calibration error and distance of the calibration slope from 1 of the reference minus those of the run. If folds
    held the cases out, all intervals are as wide as `levels.level_for` asks.
    """
    bootstrap = settings.bootstrap.over(reference.patients, reference.folds)
    weights = bootstrap.weights(reference.patients)
    before, after = (_estimates(one, settings) for one in (reference, run))
    worse, better = (_losses(one, settings.bins) for one in (reference, run))
    return [
        Compared(
            name,
            before[name],
            after[name],
            paired_difference(worse[name], better[name], weights, bootstrap.confidence),
        )
        for name in METRICS
    ]


def unpaired(reference: Predictions, run: Predictions, settings: Settings) -> list[Compared]:
    """List the metrics of two runs, each on its own cases; no difference is computed."""
    before, after = (_estimates(one, settings) for one in (reference, run))
    return [Compared(name, before[name], after[name]) for name in METRICS]


def _estimates(predictions: Predictions, settings: Settings) -> dict[str, Estimate]:
    """Estimate every metric as the summary of a run does."""
    labels, patients = predictions.labels, predictions.patients
    bootstrap = settings.bootstrap.over(patients, predictions.folds, cross_fitted=predictions.cross_fitted)
    if labels.ndim == 1:
        return estimates_of(predictions.probabilities, labels, patients, bins=settings.bins, bootstrap=bootstrap)
    metrics = _metrics(predictions, settings.bins)
    weights = bootstrap.weights(patients)
    found = estimate_all(metrics, weights, bootstrap.confidence)
    found |= multilabel.losses(metrics, weights, bootstrap.confidence)
    slope = multilabel.mean_slope(predictions.probabilities, labels, patients, bootstrap.confidence)
    return found | {"ece": distance_estimate(found["ece"], bootstrap.confidence), "calibration_slope": slope}


def _metrics(predictions: Predictions, bins: int) -> dict[str, Metric]:
    """Bind each metric to the cases, as in the summary of a run."""
    probabilities, labels = predictions.probabilities, predictions.labels
    if labels.ndim == 1:
        known = metrics_of(probabilities, labels, bins)
        return {name: known[name] for name in METRICS}
    of_label = multilabel.metrics_of_label(bins)
    return {name: partial(multilabel.macro, of_label[name], probabilities, labels) for name in METRICS}


def _losses(predictions: Predictions, bins: int) -> dict[str, Metric]:
    """Bind each metric to the cases, converted so that less is better."""
    return {name: _as_loss(name, metric) for name, metric in _metrics(predictions, bins).items()}


def _as_loss(name: str, metric: Metric) -> Metric:
    if name == "auc":
        return lambda weights: -metric(weights)
    if name == "calibration_slope":
        return lambda weights: np.abs(metric(weights) - 1)
    return metric
