"""How many patients a study needs for intervals of a given width, from the figures of a set that was evaluated."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from pipeline.metrics.calibration import logistic_line, logit
from pipeline.metrics.discrimination import Floats

Marks = NDArray[np.bool_]

SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05  # Riley et al. 2019: slope, Nagelkerke's R2, half width of the risk
WIDTHS = {"auc": 0.1, "calibration_slope": 0.4, "observed_expected": 0.4}  # of 95 % intervals, from end to end
MOST = 1e7  # more patients than any study has


def patients_for_width(
    metric: str, prediction: Floats, events: Marks, *, auc: float, width: float, confidence: float = 0.95
) -> int | None:
    """Compute how many patients an external validation needs for an interval of this width.

    Riley, Debray, Collins et al. 2021 ("Minimum sample size for external validation of a clinical prediction model with
    a binary outcome", Statistics in Medicine 40), with one prediction of each patient: equations for O:E, for the
    calibration slope of predictions that are right and distributed as these, and for the AUC.

    Parameters
    ----------
    metric : {"auc", "calibration_slope", "observed_expected"}
    prediction, events : (n,)
        Of the set that was evaluated; its predictions and its prevalence are taken for those of the new patients.
    auc : float
        That is expected.
    width : float
        From the lower to the upper limit; of O:E around 1.
    confidence : float

    Returns
    -------
    int or None
        None without events, without non-events, or for an AUC of 0 or 1.
    """
    share, z = float(np.mean(events)), float(norm.ppf((1 + confidence) / 2))
    if not 0 < share < 1:
        return None
    if metric == "observed_expected":
        error = math.asinh(width / 2) / z  # limits exp(-z e) and exp(z e) are 2 sinh(z e) apart
        return math.ceil((1 - share) / (share * error**2))
    error = width / (2 * z)
    if metric == "calibration_slope":
        return _rounded_up(slope_information(prediction), error)
    if not 0 < auc < 1:
        return None
    n = float(brentq(lambda n: auc_error(auc, n, share) - error, 2 / min(share, 1 - share), MOST))
    return math.ceil(n)


def slope_information(prediction: Floats) -> float:
    """Compute the information on a slope, the intercept being estimated, that a patient gives on average."""
    x = logit(prediction)
    fitted = expit(x)
    spread = fitted * (1 - fitted)
    both, slope = float(np.mean(spread * x)), float(np.mean(spread * x * x))
    return slope - both**2 / float(np.mean(spread))


def auc_error(auc: float, n: float, share: float) -> float:
    """Compute the standard error of an AUC (Newcombe 2006, method 4), n patients with this share of events."""
    more = n / 2 - 1
    shape = 1 + more * (1 - auc) / (2 - auc) + more * auc / (1 + auc)
    return math.sqrt(auc * (1 - auc) * shape / (n * n * share * (1 - share)))


def patients_for_development(prediction: Floats, events: Marks, trained: int) -> int | None:
    """Compute how many patients the development of such a model needs, so that it overfits by at most a tenth.

    Riley, Snell, Ensor et al. 2019 ("Minimum sample size for developing a multivariable prediction model: part II",
    Statistics in Medicine 38). A network has no number of parameters to put in; the formula is solved for it instead:
    as many as would shrink the predictions by the slope that was found.

    Parameters
    ----------
    prediction, events : (n,)
        Uncalibrated predictions of patients on whom the model was not trained.
    trained : int
        Patients on whom it was.

    Returns
    -------
    int or None
        None if the predictions separate the events or do not rank them.
    """
    intercept, slope = logistic_line(prediction, events, np.ones((1, len(events))))[0]
    share = float(np.mean(events))
    if not (np.isfinite(slope) and 0 < share < 1):
        return None
    r2 = _cox_snell(expit(intercept + slope * logit(prediction)), events)
    if not 0 < r2 < slope:
        return None
    parameters = trained * _overfitting(slope, r2) if slope < 1 else 0.0
    return patients_for_parameters(parameters, r2, share)


def patients_for_parameters(parameters: float, r2: float, share: float) -> int:
    """Compute the largest of Riley's three sample sizes for development.

    Equation 11 for a shrinkage of 0.9 and for an optimism of 0.05 in Nagelkerke's R2, and the patients for an overall
    risk within 0.05.

    Parameters
    ----------
    parameters : float
        Of the predictors.
    r2 : float
        Cox and Snell's R2 on new patients, in (0, 1).
    share : float
        Of events, in (0, 1).
    """
    largest = 1 - math.exp(-2 * _entropy(share))
    slopes = (max(SHRINKAGE, r2 * 1.001), r2 / (r2 + OPTIMISM * largest))
    risk = share * (1 - share) * (float(norm.ppf(0.975)) / MARGIN) ** 2
    return math.ceil(max(risk, *(parameters / _overfitting(slope, r2) for slope in slopes)))


def _overfitting(slope: float, r2: float) -> float:
    """Compute the parameters for each patient at which predictions shrink to a slope below 1."""
    return (slope - 1) * math.log(1 - r2 / slope)


def _cox_snell(fitted: Floats, events: Marks) -> float:
    likelihood = float(np.mean(np.log(np.where(events, fitted, 1 - fitted))))
    return 1 - math.exp(-2 * (likelihood + _entropy(float(np.mean(events)))))


def _entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def patients_until(n: int, value: float, limit: float, bound: float) -> int | None:
    """Estimate how many patients bring the limit of an interval to a bound, if the value stays as it is.

    Distances shrink with the root of the number of patients; an interval that is coupled over folds, or over images of
    a patient, stays so.

    Parameters
    ----------
    n : int
        Patients of the interval.
    value, limit, bound : float
        On a scale on which the interval is about symmetric.

    Returns
    -------
    int or None
        None if no number of patients does: the value itself is not beyond the bound.
    """
    room = (value - bound) if limit <= value else (bound - value)
    return math.ceil(n * ((value - limit) / room) ** 2) if room > 0 else None


def _rounded_up(information: float, error: float) -> int | None:
    return math.ceil(1 / (information * error**2)) if information > 0 else None
