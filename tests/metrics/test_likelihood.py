"""Likelihood intervals of intercept and slope: closed forms, the profile by hand, and how often they hold the truth."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import chi2, norm

from pipeline.metrics.levels import Level, factor_of, is_cross_fitted, level_for, uncalibrated
from pipeline.metrics.likelihood import intercept_estimate, multiclass_slope_estimate, slope_estimate


def cohort(n=80, images=1, seed=0):
    """Right predictions, uniform; the images of a patient are equal."""
    rng = np.random.default_rng(seed)
    prediction, chance = (np.repeat(norm.cdf(rng.normal(size=n)), images) for _ in range(2))
    return prediction, chance < prediction, np.repeat(np.arange(n), images).astype(str)


def log_likelihood(intercept, slope, prediction, events):
    scores = intercept + slope * logit(prediction)
    return np.where(events, np.log(expit(scores)), np.log(expit(-scores))).sum()


def test_limits_of_a_slope_are_where_its_profile_likelihood_falls():
    prediction, events, patients = cohort()
    found = slope_estimate(prediction, events, patients, 0.95)

    def profile(slope):
        return -minimize_scalar(lambda a: -log_likelihood(a, slope, prediction, events), (-1, 1)).fun

    best = profile(found.value)
    for limit in (found.lower, found.upper):
        assert best - profile(limit) == pytest.approx(chi2.ppf(0.95, 1) / 2, abs=1e-5)
    assert found.lower < found.value < found.upper


def test_limits_of_an_intercept_are_where_its_likelihood_falls():
    prediction, events, patients = cohort()
    found = intercept_estimate(prediction, events, patients, 0.9)
    best = log_likelihood(found.value, 1, prediction, events)
    for limit in (found.lower, found.upper):
        assert best - log_likelihood(limit, 1, prediction, events) == pytest.approx(chi2.ppf(0.9, 1) / 2, abs=1e-6)


def test_a_level_with_a_factor_multiplies_the_fall():
    prediction, events, patients = cohort()
    found = intercept_estimate(prediction, events, patients, Level(0.95, 2.0))
    best = log_likelihood(found.value, 1, prediction, events)
    assert best - log_likelihood(found.lower, 1, prediction, events) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-6)


def test_separated_events_leave_a_lower_limit_and_no_value():
    prediction, events, patients = np.array([0.1, 0.2, 0.3, 0.7, 0.8]), np.arange(5) > 2, np.arange(5).astype(str)
    found = slope_estimate(prediction, events, patients, 0.95)
    assert found.value is None and found.upper is None and found.lower > 0
    turned = slope_estimate(1 - prediction, events, patients, 0.95)
    assert turned.value is None and turned.lower is None and turned.upper == pytest.approx(-found.lower)
    nobody = slope_estimate(prediction, events & False, patients, 0.95)
    assert (nobody.value, nobody.lower, nobody.upper) == (None, None, None)


def test_the_intercept_without_an_event_has_an_upper_limit():
    """n cases of prediction 1/2 without an event: n ln(1 + e^a) = q / 2."""
    found = intercept_estimate(np.full(10, 0.5), np.zeros(10, bool), np.arange(10).astype(str), 0.95)
    assert found.value is None and found.lower is None
    assert found.upper == pytest.approx(np.log(np.expm1(chi2.ppf(0.95, 1) / 20)), abs=1e-6)


def test_the_slope_of_several_classes_is_a_line_through_one_half():
    prediction, events, patients = cohort(200)
    both = np.stack([1 - prediction, prediction], axis=1)
    found = multiclass_slope_estimate(both, events.astype(int), patients, 0.95)
    best = log_likelihood(0, found.value, prediction, events)
    assert best - log_likelihood(0, found.upper, prediction, events) == pytest.approx(chi2.ppf(0.95, 1) / 2, abs=1e-5)


def test_equal_images_of_a_patient_count_once_but_for_their_leverage():
    once, many = (slope_estimate(*cohort(200, images), 0.95) for images in (1, 5))
    assert many.value == pytest.approx(once.value)
    assert (many.upper - many.lower) / (once.upper - once.lower) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("images", [1, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(images):
    held = {"slope": 0, "intercept": 0}
    for seed in range(200):
        sample = cohort(60, images, seed)
        for name, estimate, truth in (("slope", slope_estimate, 1), ("intercept", intercept_estimate, 0)):
            found = estimate(*sample, 0.95)
            held[name] += found.lower <= truth <= found.upper
    assert 0.9 <= held["slope"] / 200 <= 0.99 and 0.9 <= held["intercept"] / 200 <= 0.99


def test_a_cross_fitted_slope_below_one_reaches_further_up():
    """By what the estimate lacks to 1; a slope above 1, or of one model, stays as it is."""
    patients, folds = np.arange(100).astype(str), (np.arange(100) % 5).astype(str)
    fixed, fitted = (level_for(0.95, patients, folds, cross_fitted=one) for one in (False, True))
    generator = np.random.default_rng(0)
    truth = generator.normal(size=100)
    events = generator.random(100) < expit(truth)
    for scale, below in ((3.0, True), (0.3, False)):
        before, after = (slope_estimate(expit(scale * truth), events, patients, level) for level in (fixed, fitted))
        assert (before.value < 1) == below and (after.value, after.lower) == (before.value, before.lower)
        assert after.upper == pytest.approx(before.upper + max(1 - before.value, 0))
    assert not is_cross_fitted(level_for(0.95, patients, np.full(100, "final"), cross_fitted=True))
    assert not is_cross_fitted(uncalibrated(fitted)) and factor_of(uncalibrated(fitted)) == factor_of(fitted)
