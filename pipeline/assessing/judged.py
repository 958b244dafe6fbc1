"""Cases with what was forecast for them, and the tables that are made of both."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.assessing.calibrators import Temperature
from pipeline.assessing.metrics import judged_confidence, macro_auc, roc_curve
from pipeline.assessing.summary import as_number

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """Cases with what was forecast for them, before and after calibration.

    Attributes
    ----------
    cases : pandas.DataFrame
        n rows with `case`, `patient` and `site`.
    labels : (n,) int
        Numbers of the true classes.
    uncalibrated, calibrated : (n, K)
        Rows sum to one.
    """

    cases: pd.DataFrame
    labels: Ints
    uncalibrated: Floats
    calibrated: Floats

    @property
    def patients(self) -> NDArray[np.str_]:
        """The patient of each case (n,), the unit of every interval."""
        return np.asarray(self.cases["patient"], dtype=np.str_)

    def part(self, mask: NDArray[np.bool_]) -> "Judged":
        """Keep the cases that a mask (n,) marks."""
        return Judged(self.cases[mask], self.labels[mask], self.uncalibrated[mask], self.calibrated[mask])


def judged_by(calibrator: Temperature, cases: pd.DataFrame, classes: list[str]) -> Judged:
    """Turn the logits of labelled cases into forecasts."""
    logits = logits_of(cases)
    labels = label_numbers(cases, classes)
    return Judged(cases, labels, Temperature(1.0).apply(logits), calibrator.apply(logits))


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
    of_fold = [macro_auc(probabilities[mask], pooled.labels[mask], np.ones((1, int(mask.sum()))))[0] for mask in masks]
    forecasts = np.stack(pooled.cases["site_forecast"].to_list())
    site = macro_auc(forecasts, pooled.labels, np.ones((1, len(pooled.labels))))[0]
    return {"auc_mean_of_folds": as_number(np.nanmean(of_fold)), "auc_of_site_alone": as_number(site)}


def roc_table(judged: Judged) -> pd.DataFrame:
    """Tabulate the corners of the calibrated ROC curve."""
    false_positive, true_positive = roc_curve(*judged_confidence(judged.calibrated, judged.labels))
    return pd.DataFrame({"false_positive_rate": false_positive, "true_positive_rate": true_positive})


def forecast_table(judged: Judged, scope: str) -> pd.DataFrame:
    """Tabulate every case of a set with its probabilities before and after calibration."""
    table = judged.cases.drop(columns=["site_forecast"], errors="ignore").assign(scope=scope)
    for number in range(judged.calibrated.shape[1]):
        table[f"uncalibrated_{number}"] = judged.uncalibrated[:, number]
        table[f"probability_{number}"] = judged.calibrated[:, number]
    return table
