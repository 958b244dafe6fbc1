"""Whether evidence of wrong probabilities comes when they are wrong, and stays away when they are right."""

import numpy as np
import pytest
from scipy.special import expit

from pipeline.commands.monitor.miscalibration import carried_forward, mean_wealth, miscalibration


def predictions(seed, n, intercept=0.0, slope=1.0):
    """Predictions whose events follow the line of Cox."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.5, size=n)
    return expit(logits), rng.random(n) < expit(intercept + slope * logits)


def test_right_predictions_hardly_ever_raise_an_alarm():
    alarms = [miscalibration(*predictions(seed, 300)).max() >= np.log(20) for seed in range(400)]
    assert np.mean(alarms) < 0.05 + 2 * 0.011


@pytest.mark.parametrize(("intercept", "slope"), [(-1, 1), (1, 1), (0, 0.4), (0, 2.2)])
def test_wrong_predictions_raise_one(intercept, slope):
    alarms = [miscalibration(*predictions(seed, 300, intercept, slope)).max() >= np.log(20) for seed in range(30)]
    assert np.mean(alarms) > 0.9


def test_the_mean_wealth_over_both_outcomes_is_what_was_there_before():
    probabilities, events = predictions(0, 10)
    before = np.exp(miscalibration(probabilities[:9], events[:9])[-1])
    after = [np.exp(miscalibration(probabilities, np.append(events[:9], last))[-1]) for last in (False, True)]
    assert np.dot(after, [1 - probabilities[9], probabilities[9]]) == pytest.approx(before)


def test_a_certain_prediction_that_was_wrong_is_no_error():
    assert np.isfinite(miscalibration(np.array([0.0, 1.0]), np.array([True, False]))).all()


def test_predictions_that_go_wrong_late_raise_an_alarm_all_the_same():
    right, wrong = predictions(3, 500), predictions(4, 200, intercept=1.5)
    log_wealth = miscalibration(*(np.concatenate(both) for both in zip(right, wrong, strict=True)))
    assert log_wealth[:500].max() < np.log(20) and log_wealth.max() > np.log(100)


def several(seed, n, shift=(0.0, 0.0, 0.0)):
    """Test three labels with dependent outcomes; one value in five is unknown, independently of its value."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.5, size=n)[:, None] + rng.normal(0, 0.5, size=(n, 3))
    events = rng.random((n, 1)) < expit(logits + shift)  # one random number for all labels of a patient
    known = rng.random((n, 3)) < 0.8
    pairs = zip(expit(logits).T, events.T, known.T, strict=True)
    return [carried_forward(miscalibration(p[k], y[k]), np.flatnonzero(k), n) for p, y, k in pairs]


def test_labels_that_go_together_raise_no_more_false_alarms_than_one():
    alarms = [mean_wealth(several(seed, 200)).max() >= np.log(20) for seed in range(300)]
    assert np.mean(alarms) < 0.05 + 2 * 0.0126


def test_one_wrong_label_of_three_is_found_no_later_than_by_bonferroni():
    for seed in range(20):
        parts = several(seed, 400, shift=(0, 1.2, 0))
        together, apart = mean_wealth(parts) >= np.log(20), np.max(parts, axis=0) >= np.log(60)
        assert together.any() and together[apart].all()
        assert np.argmax([part[-1] for part in parts]) == 1


def test_a_wealth_stays_constant_while_a_label_is_unknown():
    assert carried_forward(np.array([0.5, 0.2]), np.array([1, 3]), 5).tolist() == pytest.approx([0, 0.5, 0.5, 0.2, 0.2])


def test_the_wealth_of_several_labels_is_the_mean_of_theirs():
    parts = [np.log([2.0, 8.0]), np.log([1.0, 0.5]), np.zeros(2)]
    np.testing.assert_allclose(np.exp(mean_wealth(parts)), [4 / 3, 9.5 / 3])
