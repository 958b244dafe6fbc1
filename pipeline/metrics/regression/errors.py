"""Metrics of predicted numbers: size of the error, calibration of the mean, and bias against the value.

Arrays are predicted and true numbers (n,), and weights (R, n), one row for each replicate of a bootstrap; each metric
gives one value per row (R,).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats, Floats], Floats]

CONSTANT = 1e-20  # share of the sum of squares below which a spread is rounding
AGREEMENT = 1.96  # standard deviations of the differences within which 95 % of them lie, if they are normal


def mae(predicted: Floats, true: Floats, weights: Floats) -> Floats:
    """Compute the mean absolute error, in the unit of the number; at least 0."""
    return _mean(np.abs(predicted - true), weights)


def rmse(predicted: Floats, true: Floats, weights: Floats) -> Floats:
    """Compute the root of the mean squared error, in the unit of the number; at least 0."""
    return np.sqrt(_mean(np.square(predicted - true), weights))


def r_squared(predicted: Floats, true: Floats, weights: Floats) -> Floats:
    """Compute R² = 1 - sum (y - p)² / sum (y - mean y)²: 1 is perfect, 0 is no better than the mean of these cases.

    NaN if the true numbers of a replicate are all the same.
    """
    return np.asarray(1 - weights @ np.square(predicted - true) / _spread(true, weights))


def bias(predicted: Floats, true: Floats, weights: Floats) -> Floats:
    """Compute the mean of predicted minus true numbers, in their unit; 0 is right."""
    return _mean(predicted - true, weights)


def calibration_slope(predicted: Floats, true: Floats, weights: Floats) -> Floats:
    """Compute the slope of the least-squares line of true on predicted numbers: 1 is right, below 1 too extreme.

    NaN if the predicted numbers are all the same (Steyerberg 2019, "Clinical prediction models", section 15.3).
    """
    return _slope(predicted, true, weights)


def calibration_intercept(predicted: Floats, true: Floats, weights: Floats) -> Floats:
    """Compute the intercept of that line, in the unit of the number: 0 is right."""
    return _mean(true, weights) - _slope(predicted, true, weights) * _mean(predicted, weights)


def bias_slope(predicted: Floats, true: Floats, weights: Floats) -> Floats:
    """Compute the slope of the error (predicted minus true) against the true number.

    It is 0 if low and high numbers are hit alike, and -1 for a constant prediction. Any prediction that is less than
    perfect and calibrated has a negative slope (regression to the mean): R² - 1 on average.
    """
    return _slope(true, predicted - true, weights)


METRICS: dict[str, Metric] = {
    "mae": mae,
    "rmse": rmse,
    "r2": r_squared,
    "bias": bias,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
    "bias_slope": bias_slope,
}


def limits_of_agreement(predicted: Floats, true: Floats) -> tuple[float, float, float]:
    """Compute the mean difference and its limits of agreement, mean ± 1.96 standard deviations.

    Bland and Altman 1986, "Statistical methods for assessing agreement between two methods of clinical measurement".

    Returns
    -------
    mean, lower, upper : float
        In the unit of the number.
    """
    differences = predicted - true
    middle = float(differences.mean())
    reach = AGREEMENT * float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return middle, middle - reach, middle + reach


def _mean(values: Floats, weights: Floats) -> Floats:
    return np.asarray(weights @ values / weights.sum(axis=1))


def _slope(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Compute the weighted least-squares slope (R,) of y on x."""
    from_mean = x - _mean(x, weights)[:, None]
    return np.asarray((weights * from_mean * y).sum(axis=1) / _spread(x, weights))


def _spread(x: Floats, weights: Floats) -> Floats:
    """Compute the weighted sum of squares (R,) about the mean; NaN where x is constant up to rounding."""
    found = (weights * np.square(x - _mean(x, weights)[:, None])).sum(axis=1)
    return np.where(found > CONSTANT * (weights @ np.square(x)), found, np.nan)
