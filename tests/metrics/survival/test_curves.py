import numpy as np
import pytest

from pipeline.metrics.survival import curves

# The times of remission of 21 patients on 6-MP (Freireich et al. 1963), the example of most textbooks.
TIMES = np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35], dtype=float)
EVENTS = np.array([1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
PLACEBO = np.array([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], dtype=float)


def test_the_curve_of_the_remission_data_is_the_published_one():
    curve = curves.kaplan_meier(TIMES, EVENTS)
    published = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    np.testing.assert_allclose(curve.at(np.array([6.0, 7, 10, 13, 16, 22, 23])), published, atol=5e-4)
    assert curve.first_at_or_below(0.5) == 23


def test_a_curve_is_one_before_the_first_event_and_stays_after_the_last():
    curve = curves.kaplan_meier(TIMES, EVENTS)
    np.testing.assert_array_equal(curve.at(np.array([0.0, 5.9])), 1.0)
    assert curve.at(np.array([100.0]))[0] == curve.values[-1]


def test_a_median_that_was_not_reached_is_none():
    curve = curves.kaplan_meier(np.array([1.0, 2, 3]), np.array([True, False, False]))
    assert curve.first_at_or_below(0.5) is None


def test_a_weight_counts_a_patient_as_often():
    weights = np.random.default_rng(0).integers(0, 4, size=len(TIMES))
    repeated = curves.kaplan_meier(np.repeat(TIMES, weights), np.repeat(EVENTS, weights))
    weighted = curves.kaplan_meier(TIMES, EVENTS, weights.astype(float))
    when = np.arange(0, 40.0)
    np.testing.assert_allclose(weighted.at(when), repeated.at(when), atol=1e-12)


def test_the_limits_surround_the_curve_and_stay_between_0_and_1():
    curve = curves.kaplan_meier(TIMES, EVENTS)
    lower, upper = curves.kaplan_meier_interval(TIMES, EVENTS, 0.95)
    assert np.all((lower.values >= 0) & (lower.values < curve.values))
    assert np.all((upper.values <= 1) & (upper.values > curve.values))


def test_the_log_rank_test_of_the_remission_data_is_the_published_one():
    times = np.concatenate([TIMES, PLACEBO])
    events = np.concatenate([EVENTS, np.ones(21, dtype=bool)])
    statistic, p = curves.logrank(times, events, np.repeat([0, 1], 21))
    assert statistic == pytest.approx(16.79, abs=0.005)
    assert p < 1e-4


def test_a_log_rank_test_without_events_has_no_value():
    statistic, p = curves.logrank(TIMES, np.zeros(len(TIMES), dtype=bool), np.arange(len(TIMES)) % 2)
    assert np.isnan(statistic)
    assert np.isnan(p)


def test_follow_up_is_the_median_of_censoring_and_not_of_all_times():
    assert curves.median_follow_up(TIMES, EVENTS) == 25
    assert curves.median_follow_up(TIMES, np.ones(len(TIMES), dtype=bool)) is None


def test_events_leave_before_patients_who_are_censored_at_the_same_time():
    times, events = np.array([1.0, 1, 2]), np.array([True, False, False])
    steps, values = curves.censoring_steps(times, events, np.ones((1, 3)))
    np.testing.assert_array_equal(steps, [1, 2])
    np.testing.assert_allclose(values, [[0.5, 0.0]])
    before = curves.uncensored_before(times, events, np.ones((1, 3)), np.array([1.0, 2, 3]))
    np.testing.assert_allclose(before, [[1, 0.5, 0]])
