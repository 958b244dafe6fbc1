import numpy as np
import pytest

from pipeline.metrics.survival import accuracy, cox
from pipeline.metrics.survival.curves import kaplan_meier
from tests.metrics.survival.simulated import simulated


def test_the_brier_score_without_censoring_is_the_mean_squared_error():
    _, _, times, _ = simulated()
    rng = np.random.default_rng(0)
    survival, events = rng.random(len(times)), np.ones(len(times), dtype=bool)
    found = accuracy.brier(survival, times, events, np.ones((1, len(times))), horizon=0.5)[0]
    assert found == pytest.approx(np.mean(((times > 0.5) - survival) ** 2))


def test_the_brier_score_of_censored_times_is_that_of_the_true_times():
    rng = np.random.default_rng(0)
    log_hazard = rng.normal(size=20000)
    true, end = rng.exponential(np.exp(-log_hazard)), rng.uniform(0.2, 1.5, size=20000)
    survival, one = np.exp(-0.5 * np.exp(log_hazard)), np.ones((1, 20000))
    wanted = np.mean(((true > 0.5) - survival) ** 2)
    found = accuracy.brier(survival, np.minimum(true, end), true <= end, one, horizon=0.5)[0]
    assert found == pytest.approx(wanted, abs=0.005)


def test_predictions_of_the_truth_are_calibrated_and_beat_those_of_nobody():
    _, log_hazard, times, events = simulated(n=4000)
    one, horizons = np.ones((1, 4000)), np.array([0.3, 0.6, 0.9])
    survival = np.exp(-horizons * np.exp(log_hazard)[:, None])
    assert accuracy.calibration_slope(log_hazard, times, events, one)[0] == pytest.approx(1, abs=0.06)
    for at, horizon in enumerate(horizons):
        found = accuracy.observed_expected(survival[:, at], times, events, one, horizon=horizon)[0]
        assert found == pytest.approx(1, abs=0.06)
    alone = np.tile(kaplan_meier(times, events).at(horizons), (4000, 1))
    scores = [accuracy.integrated_brier(some, times, events, one, horizons=horizons)[0] for some in (survival, alone)]
    assert scores[0] < scores[1]


def test_a_hazard_that_is_twice_too_extreme_has_a_slope_of_a_half():
    _, log_hazard, times, events = simulated(n=4000)
    slopes = accuracy.calibration_slope(2 * log_hazard, times, events, np.ones((1, 4000)))
    assert slopes[0] == pytest.approx(0.5, abs=0.03)


def test_a_slope_that_cannot_be_fitted_has_no_value():
    _, log_hazard, times, events = simulated(n=20)
    one = np.ones((2, 20))
    assert np.isnan(accuracy.calibration_slope(np.zeros(20), times, events, one)).all()
    assert np.isnan(accuracy.calibration_slope(log_hazard, times, np.zeros(20, dtype=bool), one)).all()


def test_slopes_of_weights_are_those_of_repeated_patients_without_ties():
    _, log_hazard, times, events = simulated(n=100)
    kept = np.random.default_rng(0).random(100) < 0.7
    found = accuracy.calibration_slope(log_hazard, times, events, kept[None].astype(float))[0]
    wanted = cox.fit_cox(log_hazard[kept, None], times[kept], events[kept])[0]
    assert found == pytest.approx(wanted)
