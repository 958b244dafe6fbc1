"""Metrics of numbers: scikit-learn, closed forms, and a weight that counts as repetition."""

import numpy as np
import pytest
from sklearn import metrics as oracle
from sklearn.linear_model import LinearRegression

from pipeline.metrics.regression.errors import (
    METRICS,
    bias,
    bias_slope,
    calibration_intercept,
    calibration_slope,
    limits_of_agreement,
    mae,
    r_squared,
    rmse,
)


@pytest.fixture
def numbers():
    rng = np.random.default_rng(3)
    true = rng.gamma(2, 20, 80)
    return 0.6 * true + rng.normal(5, 8, 80), true


def test_errors_equal_those_of_scikit_learn(numbers):
    predicted, true = numbers
    ones = np.ones((1, len(true)))
    assert mae(predicted, true, ones)[0] == pytest.approx(oracle.mean_absolute_error(true, predicted))
    assert rmse(predicted, true, ones)[0] == pytest.approx(oracle.root_mean_squared_error(true, predicted))
    assert r_squared(predicted, true, ones)[0] == pytest.approx(oracle.r2_score(true, predicted))
    line = LinearRegression().fit(predicted[:, None], true)
    assert calibration_slope(predicted, true, ones)[0] == pytest.approx(line.coef_[0])
    assert calibration_intercept(predicted, true, ones)[0] == pytest.approx(line.intercept_)
    shrunk = LinearRegression().fit(true[:, None], predicted - true)
    assert bias_slope(predicted, true, ones)[0] == pytest.approx(shrunk.coef_[0])


@pytest.mark.parametrize("name", METRICS)
def test_a_weight_of_two_is_a_case_that_is_there_twice(numbers, name):
    predicted, true = numbers
    times = np.random.default_rng(0).integers(0, 3, len(true))
    rows = np.repeat(np.arange(len(true)), times)
    weighted = METRICS[name](predicted, true, times[None].astype(float))[0]
    assert weighted == pytest.approx(METRICS[name](predicted[rows], true[rows], np.ones((1, len(rows))))[0])


def test_a_constant_prediction_has_no_slope_and_shrinks_completely(numbers):
    _, true = numbers
    constant, ones = np.full(len(true), true.mean()), np.ones((1, len(true)))
    assert np.isnan(calibration_slope(constant, true, ones)[0])
    rounded = constant * (1 + 1e-16 * np.arange(len(true)))
    assert np.isnan(calibration_slope(rounded, true, np.random.default_rng(0).poisson(1, (20, len(true))))).all()
    assert bias_slope(constant, true, ones)[0] == pytest.approx(-1)
    assert r_squared(constant, true, ones)[0] == pytest.approx(0)
    assert bias(constant, true, ones)[0] == pytest.approx(0)
    assert np.isnan(r_squared(true, np.ones(len(true)), ones)[0])


def test_a_perfect_calibrated_share_of_the_truth_shrinks_by_r_squared():
    rng = np.random.default_rng(1)
    predicted = rng.normal(size=200_000)
    true = predicted + rng.normal(size=200_000)  # half of the variance is told
    ones = np.ones((1, len(true)))
    assert r_squared(predicted, true, ones)[0] == pytest.approx(0.5, abs=0.01)
    assert calibration_slope(predicted, true, ones)[0] == pytest.approx(1, abs=0.01)
    assert bias_slope(predicted, true, ones)[0] == pytest.approx(-0.5, abs=0.01)


def test_limits_of_agreement_hold_95_percent_of_normal_differences():
    rng = np.random.default_rng(2)
    true = rng.uniform(0, 100, 100_000)
    predicted = true + rng.normal(3, 5, len(true))
    middle, lower, upper = limits_of_agreement(predicted, true)
    assert (middle, lower, upper) == pytest.approx((3, 3 - 9.8, 3 + 9.8), abs=0.1)
    inside = (predicted - true > lower) & (predicted - true < upper)
    assert inside.mean() == pytest.approx(0.95, abs=0.005)
