"""Levels of intervals that hold for cross-validated predictions and for few patients."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

Names = NDArray[np.str_]
Marks = NDArray[np.bool_]


class Level(float):
    """Confidence level of an interval, with the factor by which the variance exceeds that of the replicates.

    It is a number like any other level; `expanded` tells which level the replicates are to be read at.

    Attributes
    ----------
    factor : float
        1 if the replicates show the whole variance.
    cross_fitted : bool
        Whether each fold was calibrated by a calibrator that was fitted on the others.
    """

    factor: float
    cross_fitted: bool

    def __new__(cls, confidence: float, factor: float = 1.0, *, cross_fitted: bool = False) -> "Level":
        """Make a level between 0 and 1."""
        level = super().__new__(cls, confidence)
        level.factor, level.cross_fitted = factor, cross_fitted
        return level


def factor_of(confidence: float) -> float:
    """Give the factor of a `Level`; 1 for a plain number."""
    return confidence.factor if isinstance(confidence, Level) else 1.0


def is_cross_fitted(confidence: float) -> bool:
    """Tell whether the interval is one of cross-fitted calibration; False for a plain number."""
    return isinstance(confidence, Level) and confidence.cross_fitted


def uncalibrated(confidence: float) -> float:
    """Give the same level for predictions as they were before calibration."""
    return Level(confidence, factor_of(confidence))


def quantile_of(confidence: float) -> float:
    """Compute how many standard errors of the replicates an interval extends to each side; 1.96 for 0.95 alone."""
    return float(norm.ppf((1 + confidence) / 2) * np.sqrt(factor_of(confidence)))


def expanded(confidence: float) -> float:
    """Compute the level at which the percentiles of replicates give an interval of this level.

    An interval at a higher level is wider by the root of the factor, keeps to the range of the metric, and is the same
    on every scale (Hesterberg 2015, "What teachers should know about the bootstrap", section 4.3).

    >>> round(expanded(Level(0.95, 2.0)), 4), expanded(0.95)
    (0.9944, 0.95)
    """
    return float(2 * norm.cdf(quantile_of(confidence)) - 1) if factor_of(confidence) != 1 else float(confidence)


def level_for(
    confidence: float,
    patients: Names,
    folds: Names | None = None,
    *,
    cross_fitted: bool = False,
    coupling: float = 1.0,
) -> Level:
    """Give the level of intervals over these patients.

    The factor is that of `cross_validation_factor` if each fold was evaluated by its own model, times n / (n - 1) and
    the squared ratio of Student's quantile with n - 1 degrees of freedom to the normal one, n patients (Hesterberg
    2015).

    Parameters
    ----------
    confidence : float
    patients : (n,)
    folds : (n,), optional
        The fold that held each case out; None if one model evaluated all cases.
    cross_fitted : bool
        Whether each fold was calibrated by a calibrator that was fitted on the others.
    coupling : float
        Share of how much `cross_validation_factor` exceeds 1.
    """
    n, n_folds = len(np.unique(patients)), 1 if folds is None else len(np.unique(folds))
    factor = 1 + coupling * (cross_validation_factor(n_folds) - 1)
    if n > 1:
        few = float(t.ppf((1 + confidence) / 2, n - 1) / norm.ppf((1 + confidence) / 2)) ** 2
        factor *= few * n / (n - 1)
    return Level(confidence, factor, cross_fitted=cross_fitted and n_folds > 1)


def cross_validation_factor(n_folds: int) -> float:
    """Compute by how much the variance of a cross-validated metric exceeds that over its patients.

    What is estimated is the metric, on new patients, of the model that is trained on all patients. Of J random splits
    the mean has the variance (1 / J + test / training) s^2, s^2 that of one split (Nadeau and Bengio 2003, "Inference
    for the generalization error", equation 9). K folds are K splits with test / training = 1 / (K - 1), so that the
    variance is 1 + K / (K - 1) times s^2 / K: 2.25 for five folds. Here s^2 is estimated over patients, which is more
    precise than over K values. `benchmarks/coverage_refit.py` measures coverage.
    """
    return 1 + n_folds / (n_folds - 1) if n_folds > 1 else 1.0


def halved(confidence: float) -> float:
    """Halve by how much the factor of a level exceeds 1: folds are coupled less in decisions than in scores.

    It is a measured value (`benchmarks/coverage_refit.py`): the variance of accuracy, sensitivity and specificity is
    1.1 to 1.7 times that over patients.
    """
    return Level(confidence, (1 + factor_of(confidence)) / 2)


def coupling(folds: Names, among: Marks, fraction: float = 1.0) -> float:
    """Compute the factor by which the variance of a mean over folds exceeds its bootstrap over evaluated patients.

    Patient i is evaluated by a model trained on j, and j by one trained on i. Chance that the two share therefore
    enters twice, and the errors of folds are correlated: by 1 / (K - 1) for K folds if the models learned only chance,
    and by less otherwise. This function takes that bound, times the fraction of patients that a model is trained on:
    the variance over F folds is 1 + fraction (F - 1) / (K - 1) times that of independent folds, which is 2 with all
    folds and all patients. (Nadeau and Bengio 2003, "Inference for the generalization error", use
    test / (test + training) as the correlation; Bates, Hastie, Tibshirani 2023, "Cross-validation: what does it
    estimate and how well does it do it?", show the effect of ignoring it. `benchmarks/evidence.py` measures coverage.)
    """
    n_folds, n_run = len(np.unique(folds)), len(np.unique(folds[among]))
    return 1 + fraction * (n_run - 1) / (n_folds - 1) if n_folds > 1 else 1.0
