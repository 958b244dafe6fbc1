"""Cases with what was forecast for them, and the tables that are made of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.assessing import metrics, multilabel
from pipeline.assessing.calibrators import Temperature, activation_for, cross_fitted
from pipeline.assessing.summary import as_number, per_class, reliability, site_baseline, summarise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = metrics.Labels


@dataclass(frozen=True)
class Labelling:
    """What the labels of a cohort mean.

    Attributes
    ----------
    classes : list of str
        In the order of the logits.
    task : str
        "multiclass": each case is of one class; "ordinal": of one of several grades in order; "multilabel": each
        class is there or not, by itself.
    """

    classes: list[str]
    task: str = "multiclass"


@dataclass(frozen=True)
class Judged:
    """Cases with what was forecast for them, before and after calibration.

    Attributes
    ----------
    cases : pandas.DataFrame
        n rows with `case`, `patient` and `site`.
    labels : (n,) int or (n, K) float
        Numbers of the true classes; of a multilabel task 1, 0, or NaN where not known.
    uncalibrated, calibrated : (n, K)
        Rows sum to one; of a multilabel task each number stands by itself.
    """

    cases: pd.DataFrame
    labels: Labels
    uncalibrated: Floats
    calibrated: Floats

    @property
    def patients(self) -> NDArray[np.str_]:
        """The patient of each case (n,), the unit of every interval."""
        return np.asarray(self.cases["patient"], dtype=np.str_)

    def part(self, mask: NDArray[np.bool_]) -> "Judged":
        """Keep the cases that a mask (n,) marks."""
        return Judged(self.cases[mask], self.labels[mask], self.uncalibrated[mask], self.calibrated[mask])


def judged_by(calibrator: Temperature, cases: pd.DataFrame, classes: list[str], labels: Labels | None = None) -> Judged:
    """Turn the logits of labelled cases into forecasts; the column `label` names a class where no labels are given."""
    logits = logits_of(cases)
    labels = label_numbers(cases, classes) if labels is None else labels
    plain = Temperature(1.0, calibrator.activation)
    return Judged(cases, labels, plain.apply(logits), calibrator.apply(logits))


def judged_across(cases: pd.DataFrame, labels: Labels) -> Judged:
    """Turn the logits of cases of several folds into forecasts, each fold calibrated by the others' temperature.

    The temperature of each case is put into the column `temperature`.
    """
    logits, plain = logits_of(cases), Temperature(1.0, activation_for(labels))
    calibrated, temperatures = cross_fitted(logits, labels, cases["fold"].to_numpy(dtype=str))
    cases = cases.assign(temperature=cases["fold"].map(temperatures))
    return Judged(cases, labels, plain.apply(logits), calibrated)


def logits_of(cases: pd.DataFrame) -> Floats:
    """Take the logits out of a table: (n, K)."""
    return np.asarray(cases.filter(like="logit_"), dtype=np.float64)


def label_numbers(cases: pd.DataFrame, classes: list[str]) -> Ints:
    """Turn labels into numbers (n,), in the order of the classes."""
    return np.array([classes.index(label) for label in cases["label"]], dtype=np.int64)


def by_fold(pooled: Judged) -> dict[str, Judged]:
    """Take pooled cases apart again by their column `fold`."""
    folds = pooled.cases["fold"].to_numpy(dtype=str)
    return {fold: pooled.part(folds == fold) for fold in sorted(set(folds))}


def auc_of_folds(pooled: Judged, probabilities: Floats) -> dict[str, float | None]:
    """Set two AUCs beside the pooled one: the mean over folds, and what the site alone gives on the same cases.

    Parameters
    ----------
    pooled : Judged
        Its cases have `fold`, and `site_forecast` as `summary.site_baseline` gives it.
    probabilities : (n, K)
        The forecasts whose folds are averaged.
    """
    folds = pooled.cases["fold"].to_numpy(dtype=str)
    masks = [folds == fold for fold in sorted(set(folds))]
    of_fold = [auc_of(probabilities[mask], pooled.labels[mask]) for mask in masks]
    site = auc_of(np.stack(pooled.cases["site_forecast"].to_list()), pooled.labels)
    return {"auc_mean_of_folds": as_number(float(np.nanmean(of_fold))), "auc_of_site_alone": as_number(site)}


def auc_of(probabilities: Floats, labels: Labels) -> float:
    """Compute the AUC as `metrics.macro_auc` does, or the mean over labels that stand each by itself."""
    figure = multilabel.macro_auc if labels.ndim == 2 else metrics.macro_auc
    return float(figure(probabilities, labels, np.ones((1, len(labels))))[0])


def site_forecasts(train_sites: list[str], train_labels: Labels, sites: list[str], n_classes: int) -> Floats:
    """Forecast cases (n, K) from their site alone."""
    if train_labels.ndim == 2:
        return multilabel.site_shares(train_sites, train_labels, sites)
    return site_baseline(train_sites, train_labels, sites, n_classes)


def summary_of(
    judged: Judged,
    probabilities: Floats,
    labelling: Labelling,
    bins: int,
    replicates: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Compute the figures of a set of cases that suit its task; the rest as `summary.summarise`."""
    settings = (bins, replicates, confidence, seed)
    if labelling.task == "multilabel":
        names = labelling.classes
        return multilabel.summarise_labels(probabilities, judged.labels, judged.patients, names, *settings)
    return summarise(probabilities, judged.labels, judged.patients, *settings, ordinal=labelling.task == "ordinal")


def class_table(judged: Judged, labelling: Labelling, replicates: int, confidence: float, seed: int) -> pd.DataFrame:
    """Tabulate each class against the rest, or each label by itself."""
    table = multilabel.per_label if labelling.task == "multilabel" else per_class
    return table(judged.calibrated, judged.labels, judged.patients, labelling.classes, replicates, confidence, seed)


def roc_table(judged: Judged) -> pd.DataFrame:
    """Tabulate the corners of the calibrated ROC curve; that of all known pairs of a multilabel task (micro)."""
    confidence, events = metrics.judged_confidence(judged.calibrated, judged.labels)
    false_positive, true_positive = metrics.roc_curve(confidence, events)
    return pd.DataFrame({"false_positive_rate": false_positive, "true_positive_rate": true_positive})


def roc_tables(scopes: Mapping[str, Judged]) -> pd.DataFrame:
    """Tabulate the ROC curve of every scope."""
    tables = [roc_table(judged) for judged in scopes.values()]
    for table, scope in zip(tables, scopes, strict=True):
        table.insert(0, "scope", scope)
    return pd.concat(tables)


def reliability_tables(scopes: Mapping[str, Judged], bins: int) -> pd.DataFrame:
    """Tabulate the reliability of every scope, before and after calibration ("internal_uncalibrated", ...)."""
    forecasts = {
        f"{scope}_{state}": (getattr(judged, state), judged.labels)
        for scope, judged in scopes.items()
        for state in ("uncalibrated", "calibrated")
    }
    return pd.concat([reliability(*known, bins).assign(scope=scope) for scope, known in forecasts.items()])


def forecast_table(judged: Judged, scope: str) -> pd.DataFrame:
    """Tabulate every case of a set with its probabilities before and after calibration."""
    table = judged.cases.drop(columns=["site_forecast"], errors="ignore").assign(scope=scope)
    for number in range(judged.calibrated.shape[1]):
        table[f"uncalibrated_{number}"] = judged.uncalibrated[:, number]
        table[f"probability_{number}"] = judged.calibrated[:, number]
    return table
