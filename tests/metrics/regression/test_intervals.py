"""Prediction intervals: closed form of the rank, simulated coverage, noise that grows, and too few patients."""

import numpy as np
import pytest

from pipeline.metrics.regression.intervals import Intervals, fit_error, fit_values


def draw(rng, patients, images=1):
    """Numbers whose noise grows with them, and outputs that are half as steep and shifted."""
    clean = rng.uniform(5, 50, patients).repeat(images)
    true = clean + (rng.normal(size=patients) * 0.2).repeat(images) * clean
    return 10 + 0.5 * clean, true, np.arange(patients).repeat(images).astype(str)


def test_a_new_patient_is_covered_as_often_as_promised():
    """A reduced `benchmarks/regression_intervals.py`; the standard error of the mean is about 0.004."""
    shares = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        line, intervals = fit_values(*draw(rng, 100), 0.9)
        outputs, true, _ = draw(rng, 500)
        lower, upper = intervals.of(line.apply(outputs))
        shares.append(((lower <= true) & (true <= upper)).mean())
    assert 0.88 < np.mean(shares) < 0.92


def test_line_undoes_a_shift_and_intervals_widen_with_the_noise():
    outputs, true, patients = draw(np.random.default_rng(0), 4000)
    line, intervals = fit_values(outputs, true, patients, 0.9)
    assert (line.slope, line.intercept) == pytest.approx((2, -20), abs=0.6)
    lower, upper = intervals.of(np.array([10.0, 40.0]))
    low, high = upper - lower
    assert high / low == pytest.approx(4, rel=0.15)


def test_quantile_is_the_ranked_score_of_patients_not_of_images():
    outputs, true, patients = draw(np.random.default_rng(1), 19, images=3)
    once, _, names = outputs[::3], true[::3], patients[::3]
    several = fit_values(outputs, true, patients, 0.9)[1]
    single = fit_values(once, true[::3], names, 0.9)[1]
    assert several.patients == single.patients == 19
    assert several.quantile == pytest.approx(single.quantile)


def test_too_few_patients_get_no_interval():
    outputs, true, patients = draw(np.random.default_rng(2), 8)
    _, intervals = fit_values(outputs, true, patients, 0.9)
    assert intervals.quantile is None and np.isnan(intervals.of(np.array([20.0]))).all()
    assert fit_values(*draw(np.random.default_rng(2), 9), 0.9)[1].quantile is not None


def test_without_recalibration_the_outputs_stay():
    outputs, true, patients = draw(np.random.default_rng(3), 50)
    line, intervals = fit_values(outputs, true, patients, 0.9, recalibrate=False)
    assert (line.apply(outputs) == outputs).all() and intervals.quantile > 0


def test_outputs_that_tell_nothing_become_the_mean():
    rng = np.random.default_rng(4)
    true, patients = rng.normal(30, 5, 60), np.arange(60).astype(str)
    line, _ = fit_values(60 - true, true, patients, 0.9)
    assert line.slope == 0 and line.intercept == pytest.approx(true.mean())


def test_expected_error_does_not_grow_beyond_the_values_that_were_seen():
    error = fit_error(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), np.ones(3))
    assert error.at(np.array([0.0, 1.0, 2.5, 9.0])) == pytest.approx([1, 1, 2.5, 3])


def test_intervals_are_read_back_as_they_were_written():
    _, intervals = fit_values(*draw(np.random.default_rng(5), 30), 0.9)
    assert Intervals.from_json(intervals.as_json()) == intervals
    with pytest.raises(ValueError, match="finite"):
        Intervals.from_json(intervals.as_json() | {"quantile": float("nan")})
