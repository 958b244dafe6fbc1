import numpy as np
import pytest

from pipeline.metrics.survival import cox
from tests.metrics.survival.simulated import simulated


def test_two_patients_with_an_event_have_the_likelihood_by_hand():
    features, times, events = np.array([[1.0], [0], [1]]), np.array([1.0, 2, 3]), np.array([True, True, True])
    found = cox.fit_cox(features, times, events)[0]
    # The score is (1 - 2e/(2e + 1)) + (0 - e/(e + 1)), which is 0 where 2e² = 1.
    assert np.exp(found) == pytest.approx(1 / np.sqrt(2), abs=1e-6)


def test_a_large_cohort_gives_the_true_coefficients():
    features, _, times, events = simulated(n=20000, censored=0.4)
    np.testing.assert_allclose(cox.fit_cox(features, times, events), [0.8, -0.5, 0.0], atol=0.03)


def test_a_penalty_allows_more_features_than_patients():
    rng = np.random.default_rng(0)
    features, times = rng.normal(size=(20, 50)), rng.exponential(size=20)
    found = cox.fit_cox(features, times, np.ones(20, dtype=bool), penalty=1.0)
    more = cox.fit_cox(features, times, np.ones(20, dtype=bool), penalty=100.0)
    assert 0 < np.abs(more).sum() < np.abs(found).sum()


def test_no_events_and_no_maximum_are_refused():
    features, times = np.arange(6.0)[:, None], np.arange(6.0, 0, -1)
    with pytest.raises(ValueError, match="no events"):
        cox.fit_cox(features, times, np.zeros(6, dtype=bool))
    with pytest.raises(ValueError, match="no maximum"):
        cox.fit_cox(features, times, np.ones(6, dtype=bool))


def test_predicted_survival_is_that_of_the_exponential_truth():
    _, log_hazard, times, events = simulated(n=20000, censored=0.3)
    baseline, horizons = cox.baseline_hazard(log_hazard, times, events), np.array([0.2, 0.5, 1.0])
    found = cox.survival_at(baseline, log_hazard, horizons)
    true = np.exp(-horizons * np.exp(log_hazard)[:, None])
    np.testing.assert_allclose(found, true, atol=0.02)
