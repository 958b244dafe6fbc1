"""Calibration against closed forms (prediction p uniform on (0, 1), y drawn from it) and against scikit-learn."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from pipeline.metrics import calibration
from pipeline.metrics.bootstrap import Estimate, cluster_weights, distance_estimate, estimate
from pipeline.metrics.levels import level_for
from tests.metrics.closed_form import ONE, OVERCONFIDENT, P, Y

TRUE_ERROR = np.log(2) / 2 - 1 / 4  # of the overconfident ones
METRICS = {
    "observed_expected": calibration.observed_expected,
    "in_the_large": calibration.calibration_in_the_large,
    "slope": calibration.calibration_slope,
    "ece_width": lambda *known: calibration.calibration_error(*known, 10),
    "ece_mass": lambda *known: calibration.calibration_error(*known, 10, mass=True),
    "squared": lambda *known: calibration.squared_error(*known, 10),
    "debiased": lambda *known: calibration.squared_error_debiased(*known, 10),
    "miscalibration": calibration.miscalibration,
    "discrimination": lambda *known: calibration.corp(*known).discrimination,
}

ALONE = np.arange(1000).astype(str)  # patients of one image each


def drawn(n, seed, ties=False):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    p = p.round(1) if ties else p
    return p, rng.random(n) < p


def overconfident(p):
    return p**2 / (p**2 + (1 - p) ** 2)


def test_perfect_predictions_have_the_calibration_of_theory():
    assert calibration.calibration_slope(P, Y, ONE)[0] == pytest.approx(1, abs=1e-3)
    assert calibration.calibration_in_the_large(P, Y, ONE)[0] == pytest.approx(0, abs=1e-3)
    assert calibration.observed_expected(P, Y, ONE)[0] == pytest.approx(1, abs=1e-3)
    for mass in (False, True):
        assert calibration.calibration_error(P, Y, ONE, 15, mass=mass)[0] == pytest.approx(0, abs=1e-3)
    parts = calibration.corp(P, Y, ONE)
    np.testing.assert_allclose(np.concatenate(parts), [0, 1 / 12, 1 / 4], atol=1e-3)


def test_overconfident_predictions_have_the_calibration_of_theory():
    assert calibration.calibration_slope(OVERCONFIDENT, Y, ONE)[0] == pytest.approx(0.5, abs=1e-3)
    assert calibration.calibration_in_the_large(OVERCONFIDENT, Y, ONE)[0] == pytest.approx(0, abs=1e-3)
    for mass in (False, True):
        assert calibration.calibration_error(OVERCONFIDENT, Y, ONE, 100, mass=mass)[0] == pytest.approx(
            TRUE_ERROR, abs=1e-3
        )
    parts = calibration.corp(OVERCONFIDENT, Y, ONE)
    np.testing.assert_allclose(np.concatenate(parts), [0.011431, 1 / 12, 1 / 4], atol=1e-4)
    both = np.stack([1 - OVERCONFIDENT, OVERCONFIDENT], axis=1)
    assert calibration.multiclass_slope(both, Y.astype(int), ONE)[0] == pytest.approx(0.5, abs=1e-3)


def test_a_shift_of_the_logits_is_the_calibration_intercept():
    shifted = expit(np.log(P / (1 - P)) + 0.5)
    assert calibration.calibration_in_the_large(shifted, Y, ONE)[0] == pytest.approx(-0.5, abs=1e-3)
    assert calibration.calibration_slope(shifted, Y, ONE)[0] == pytest.approx(1, abs=1e-3)


def test_slope_and_intercept_of_perfect_predictions_scatter_as_theory_says():
    p = (np.arange(1000) + 0.5) / 1000
    slopes, intercepts = (
        calibration.if_perfect(metric, p, replicates=600, seed=4, patients=ALONE[:1000])
        for metric in (calibration.calibration_slope, calibration.calibration_in_the_large)
    )
    assert np.std(slopes) == pytest.approx(np.sqrt(18 / ((np.pi**2 - 6) * 1000)), rel=0.08)
    assert np.std(intercepts) == pytest.approx(np.sqrt(6 / 1000), rel=0.08)


def test_a_constant_prediction_errs_by_its_distance_from_the_prevalence():
    events, c, one = np.arange(1000) < 300, np.full(1000, 0.42), np.ones((1, 1000))
    for mass in (False, True):
        assert calibration.calibration_error(c, events, one, 10, mass=mass)[0] == pytest.approx(0.12)
    assert calibration.observed_expected(c, events, one)[0] == pytest.approx(0.3 / 0.42)
    np.testing.assert_allclose(np.concatenate(calibration.corp(c, events, one)), [0.12**2, 0, 0.21], atol=1e-12)


def test_certainty_belongs_to_the_last_bin():
    p = np.array([1, 1, 1, 0.97, 0.97])
    events = np.array([1, 1, 0, 1, 1], dtype=bool)
    assert calibration.calibration_error(p, events, np.ones((1, 5)), 15)[0] == pytest.approx(0.188)


def test_bins_of_equal_mass_have_equal_counts_except_for_ties():
    p, _ = drawn(103, seed=1)
    assert set(np.bincount(calibration.bin_of(p, 10, mass=True))) == {10, 11}
    tied = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.9])
    assert calibration.bin_of(tied, 4, mass=True).tolist() == [0, 0, 0, 0, 0, 2, 3, 3]


@pytest.mark.parametrize(("n", "expected"), [(100, 0.122), (500, 0.054), (1000, 0.039)])
def test_perfect_predictions_of_a_small_sample_have_a_calibration_error(n, expected):
    predictions = [np.random.default_rng(seed).random(n) for seed in range(12)]
    draws = [
        calibration.calibration_error_if_perfect(p, bins=15, replicates=60, seed=99 + k, patients=ALONE[:n])
        for k, p in enumerate(predictions)
    ]
    assert np.mean(draws) == pytest.approx(expected, rel=0.06)
    assert np.mean(draws) == pytest.approx(np.sqrt(np.pi * 15 / (32 * n)), rel=0.06)


def test_the_null_of_the_calibration_error_widens_with_correlated_images():
    p = np.repeat(np.random.default_rng(0).random(100), 5)
    alone = calibration.calibration_error_if_perfect(p, bins=10, replicates=2000, seed=1, patients=ALONE[:500])
    together = calibration.calibration_error_if_perfect(
        p, bins=10, replicates=2000, seed=1, patients=np.repeat(ALONE[:100], 5)
    )
    of_patients = calibration.calibration_error_if_perfect(
        p[::5], bins=10, replicates=2000, seed=1, patients=ALONE[:100]
    )
    assert together.mean() == pytest.approx(of_patients.mean(), rel=0.03) and together.mean() > 2 * alone.mean()
    events = np.random.default_rng(2).random((2000, 100)).repeat(5, axis=1) < p
    truth = calibration.calibration_error(p, events, np.ones(events.shape), 10)
    assert (truth <= np.quantile(together, 0.95)).mean() == pytest.approx(0.95, abs=0.02)


def test_squared_error_has_the_bias_of_theory_and_debiasing_removes_it():
    p, _ = drawn(500, seed=2)
    plain, debiased = (
        calibration.if_perfect(
            lambda *known, metric=metric: metric(*known, 15), p, replicates=3000, seed=8, patients=ALONE[:500]
        )
        for metric in (calibration.squared_error, calibration.squared_error_debiased)
    )
    assert plain.mean() == pytest.approx(15 / (6 * 500), rel=0.05)
    assert abs(debiased.mean()) < 4 * debiased.std() / np.sqrt(3000)
    assert calibration.squared_error_debiased(OVERCONFIDENT, Y, 1000 * ONE, 100)[0] == pytest.approx(0.011431, abs=3e-4)


def test_debiasing_equals_kumar_liang_ma_for_one_prediction_per_bin():
    p, events = drawn(200, seed=3, ties=True)
    total = 0.0
    for value in np.unique(p):
        there = events[p == value]
        share, n = there.mean(), len(there)
        total += n / 200 * ((value - share) ** 2 - share * (1 - share) / (n - 1))
    assert calibration.squared_error_debiased(p, events, np.ones((1, 200)), 20)[0] == pytest.approx(total)


def test_a_case_alone_in_its_bin_adds_nothing_to_the_debiased_error():
    p, events = np.array([0.05, 0.25, 0.25]), np.array([True, False, True])
    assert calibration.squared_error_debiased(p, events, np.ones((1, 3)), 10)[0] == pytest.approx(
        2 / 3 * (0.25**2 - 0.25)
    )


def test_the_parts_of_the_brier_score_make_it_up_whatever_the_weights():
    p, events = drawn(300, seed=5, ties=True)
    p = np.where(np.arange(300) % 2, p, p**3)
    weights = cluster_weights(np.repeat(np.arange(100), 3).astype(str), 40, seed=1)
    parts = calibration.corp(p, events, weights)
    brier = [brier_score_loss(events, p, sample_weight=row) for row in weights]
    refitted = [IsotonicRegression().fit(p, events, sample_weight=row).predict(p) for row in weights]
    left = [brier_score_loss(events, fit, sample_weight=row) for fit, row in zip(refitted, weights, strict=True)]
    np.testing.assert_allclose(parts.miscalibration - parts.discrimination + parts.uncertainty, brier, atol=1e-12)
    np.testing.assert_allclose(parts.miscalibration, np.subtract(brier, left), atol=1e-7)  # theirs is single precision


def test_isotonic_predictions_on_their_own_cases_have_no_miscalibration():
    p, events = drawn(250, seed=6)
    fitted = IsotonicRegression().fit_transform(p**2, events)
    fresh = drawn(250, seed=7)[1]
    one = np.ones((1, 250))
    assert abs(calibration.miscalibration(fitted, events, one)[0]) < 1e-12
    assert calibration.miscalibration(fitted, fresh, one)[0] > 0.05


def test_the_intercept_makes_as_many_events_expected_as_happened():
    p, events = drawn(150, seed=10)
    p = p**2
    logits = np.log(p / (1 - p))
    expected = brentq(lambda a: expit(logits + a).sum() - events.sum(), -5, 5)
    assert calibration.calibration_in_the_large(p, events, np.ones((1, 150)))[0] == pytest.approx(expected)


@pytest.mark.parametrize("size", [1, 8, 40])
def test_calibration_slope_equals_logistic_regression_at_any_confidence(size):
    draws = np.random.default_rng(0)
    events = draws.random(60) < 0.5
    scores = size * (0.8 * (2 * events - 1) + draws.normal(size=60) + 0.4)
    confidence = np.clip(1 / (1 + np.exp(-scores)), 1e-9, 1 - 1e-9)
    logits = np.log(confidence / (1 - confidence))[:, None]
    oracle = LogisticRegression(C=np.inf, max_iter=10_000, tol=1e-10).fit(logits, events)
    line = calibration.logistic_line(confidence, events, np.ones((1, 60)))[0]
    np.testing.assert_allclose(line, [oracle.intercept_[0], oracle.coef_[0, 0]], rtol=1e-4)


def test_a_line_is_found_where_whole_steps_of_newton_lead_away_from_it():
    logits = np.array([-0.38, 21.9, 0.16, 1.08, 0.2])
    events, weights = np.array([False, True, True, True, False]), np.array([[0.02, 0.92, 0.1, 0.008, 7.4]])
    intercept, slope = calibration.logistic_line(expit(logits), events, weights)[0]
    rest = weights[0] * (events - expit(intercept + slope * logits))
    np.testing.assert_allclose([rest.sum(), rest @ logits], 0, atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_weight_is_a_repetition(name):
    p, events = drawn(80, seed=11)
    counts = np.random.default_rng(3).integers(0, 4, 80)
    repeated = np.repeat(np.arange(80), counts)
    if name == "ece_mass":  # the bins are those of the cases, not of a weighting
        p = np.where(np.arange(80) % 2, 0.2, 0.7)
    weighted = METRICS[name](p, events, counts[None].astype(float))
    plain = METRICS[name](p[repeated], events[repeated], np.ones((1, len(repeated))))
    np.testing.assert_allclose(weighted, plain, rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_invariant_to_order_and_to_duplication(name):
    p, events = drawn(90, seed=12)
    order = np.random.default_rng(5).permutation(90)
    found = METRICS[name](p, events, np.ones((1, 90)))
    np.testing.assert_allclose(METRICS[name](p[order], events[order], np.ones((1, 90))), found, rtol=1e-9)
    if name != "debiased":  # twice the cases, half of what chance adds
        twice = METRICS[name](np.tile(p, 2), np.tile(events, 2), np.ones((1, 180)))
        np.testing.assert_allclose(twice, found, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_each_weighting_may_have_events_of_its_own(name):
    p, _ = drawn(70, seed=13)
    draws = np.random.default_rng(6).random((3, 70)) < p
    together = METRICS[name](p, draws, np.ones((3, 70)))
    np.testing.assert_allclose(together, [METRICS[name](p, one, np.ones((1, 70)))[0] for one in draws], rtol=1e-7)


def test_separated_predictions_have_no_slope_and_zero_weights_no_metric():
    p, events = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), np.arange(6) > 2
    assert np.isnan(calibration.calibration_slope(p, events, np.ones((1, 6)))[0])
    nothing = np.zeros((1, 6))
    for name in ("observed_expected", "ece_width", "squared", "debiased", "miscalibration", "discrimination"):
        assert np.isnan(METRICS[name](p, events, nothing)[0])


def test_distance_estimate_covers_the_truth_where_percentiles_do_not():
    inside = np.zeros((60, 2))
    for repetition in range(60):
        p, events = drawn(100, seed=100 + repetition)
        values = calibration.calibration_error(
            overconfident(p), events, cluster_weights(np.arange(100).astype(str), 200, repetition), 15
        )
        found = estimate(lambda _, values=values: values, np.ones((201, 1)), 0.95)
        for column, one in enumerate((found, distance_estimate(found, 0.95))):
            inside[repetition, column] = one.lower <= TRUE_ERROR <= one.upper
    assert inside[:, 0].mean() < 0.4
    assert inside[:, 1].mean() > 0.8


def test_the_interval_of_a_distance_reaches_from_0_on_and_holds_its_value():
    assert distance_estimate(Estimate(0.1, 0.11, 0.25), 0.95) == Estimate(0.1, 0.0, 0.1)
    assert distance_estimate(Estimate(-0.01, 0.0, 0.03), 0.95, plug_in=0.0) == Estimate(-0.01, -0.01, -0.01)
    turned = distance_estimate(Estimate(0.5, 0.45, 0.7), 0.95)
    assert (turned.lower, turned.upper) == pytest.approx((0.3, 0.55))
    assert distance_estimate(Estimate(0.5, None, None), 0.95) == Estimate(0.5, None, None)


def test_a_cross_fitted_distance_reaches_half_of_its_width_up():
    """The error of the released model's calibrator is not among the replicates."""
    folds = np.arange(100) % 5
    level = level_for(0.95, np.arange(100).astype(str), folds.astype(str), cross_fitted=True)
    one_model = level_for(0.95, np.arange(100).astype(str), np.full(100, "final"))
    percentiles = Estimate(0.1, 0.09, 0.25)
    assert distance_estimate(percentiles, level).upper == pytest.approx(0.18)
    assert distance_estimate(percentiles, one_model).upper == pytest.approx(0.11)
    assert distance_estimate(percentiles, one_model) == distance_estimate(percentiles, 0.95)
