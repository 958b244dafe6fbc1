"""Whether evidence of wrong probabilities comes when they are wrong, and stays away when they are right."""

import numpy as np
import pytest
from scipy.special import expit

from pipeline.assessing.monitoring.miscalibration import miscalibration


def forecasts(seed, n, intercept=0.0, slope=1.0):
    """Forecasts whose events follow the line of Cox."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.5, size=n)
    return expit(logits), rng.random(n) < expit(intercept + slope * logits)


def test_right_forecasts_hardly_ever_raise_an_alarm():
    alarms = [miscalibration(*forecasts(seed, 300)).max() >= np.log(20) for seed in range(400)]
    assert np.mean(alarms) < 0.05 + 2 * 0.011


@pytest.mark.parametrize(("intercept", "slope"), [(-1, 1), (1, 1), (0, 0.4), (0, 2.2)])
def test_wrong_forecasts_raise_one(intercept, slope):
    alarms = [miscalibration(*forecasts(seed, 300, intercept, slope)).max() >= np.log(20) for seed in range(30)]
    assert np.mean(alarms) > 0.9


def test_the_mean_capital_over_both_outcomes_is_what_was_there_before():
    probabilities, events = forecasts(0, 10)
    before = np.exp(miscalibration(probabilities[:9], events[:9])[-1])
    after = [np.exp(miscalibration(probabilities, np.append(events[:9], last))[-1]) for last in (False, True)]
    assert np.dot(after, [1 - probabilities[9], probabilities[9]]) == pytest.approx(before)


def test_a_certain_forecast_that_was_wrong_is_no_error():
    assert np.isfinite(miscalibration(np.array([0.0, 1.0]), np.array([True, False]))).all()


def test_forecasts_that_go_wrong_late_raise_an_alarm_all_the_same():
    right, wrong = forecasts(3, 500), forecasts(4, 200, intercept=1.5)
    log_capital = miscalibration(*(np.concatenate(both) for both in zip(right, wrong, strict=True)))
    assert log_capital[:500].max() < np.log(20) and log_capital.max() > np.log(100)
