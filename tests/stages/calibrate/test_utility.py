"""Net benefit against closed forms (p uniform on (0, 1), y drawn from it) and loops; dcurves: `tests/oracles`.

The closed forms need no random draw, see `tests/metrics/closed_form.py`.
"""

import numpy as np
import pytest

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.stages.calibrate.utility import decision_curve, gain, net_benefit, treat_all
from tests.metrics.closed_form import ONE, P, Y

T = np.array([0.05, 0.1, 0.2, 0.5, 0.8])


def small(n=40, replicates=30, seed=1):
    rng = np.random.default_rng(seed)
    prediction = rng.random(n).round(1)  # many ties, some at a threshold
    patients = rng.integers(0, n // 2, n).astype(str)
    return prediction, rng.random(n) < prediction, cluster_weights(patients, replicates, seed)


def by_loops(prediction, events, weights, thresholds, prevalence=None):
    found = np.full((len(weights), len(thresholds)), np.nan)
    for r, row in enumerate(weights):
        ill, well = row[events].sum(), row[~events].sum()
        share = ill / (ill + well) if prevalence is None else prevalence
        for g, t in enumerate(thresholds):
            hits = sum(w for p, y, w in zip(prediction, events, row, strict=True) if y and p >= t)
            alarms = sum(w for p, y, w in zip(prediction, events, row, strict=True) if not y and p >= t)
            found[r, g] = hits / ill * share - alarms / well * (1 - share) * t / (1 - t)
    return found


def test_perfect_uniform_predictions_have_the_net_benefit_of_theory():
    np.testing.assert_allclose(net_benefit(P, Y, ONE, T)[0], (1 - T) / 2, atol=5e-4)
    np.testing.assert_allclose(treat_all(Y, ONE, T)[0], (1 - 2 * T) / (2 * (1 - T)), atol=1e-9)


def test_overconfident_predictions_have_the_net_benefit_of_theory():
    overconfident = P**2 / (P**2 + (1 - P) ** 2)
    acting = np.sqrt(T) / (np.sqrt(T) + np.sqrt(1 - T))
    expected = (1 - acting**2) / 2 - (1 - acting) ** 2 / 2 * T / (1 - T)
    found = net_benefit(overconfident, Y, ONE, T)[0]
    np.testing.assert_allclose(found, expected, atol=5e-4)
    assert found[2] == pytest.approx(0.3889, abs=2e-4)


@pytest.mark.parametrize("prevalence", [None, 0.03])
def test_every_weighting_equals_a_loop_over_its_cases(prevalence):
    prediction, events, weights = small()
    expected = by_loops(prediction, events, weights, T, prevalence=prevalence)
    np.testing.assert_allclose(net_benefit(prediction, events, weights, T, prevalence=prevalence), expected, atol=1e-12)


def test_a_prediction_equal_to_the_threshold_counts_as_positive():
    found = net_benefit(np.array([0.2, 0.2, 0.6, 0.1]), np.array([1, 0, 1, 0]) == 1, np.ones((1, 4)), np.array([0.2]))
    assert found[0, 0] == pytest.approx(2 / 4 - 1 / 4 * 0.25)


def test_a_case_control_sample_is_weighted_to_the_prevalence_of_use():
    """Ten events for each non-event drawn again: with the true prevalence given the metric is that of everybody."""
    drawn = np.where(Y, 10.0, 1.0) * ONE
    np.testing.assert_allclose(net_benefit(P, Y, drawn, T, prevalence=0.5), net_benefit(P, Y, ONE, T), atol=1e-9)
    np.testing.assert_allclose(treat_all(Y, drawn, T, 0.1)[0], 0.1 - 0.9 * T / (1 - T), atol=1e-12)


def test_the_gain_is_paired_with_the_better_way_without_predictions():
    prediction, events, weights = small()
    expected = by_loops(prediction, events, weights, T) - np.maximum(by_loops(np.ones(40), events, weights, T), 0)
    np.testing.assert_allclose(gain(prediction, events, weights, T), expected, atol=1e-12)


def test_acting_on_everybody_gains_nothing_where_that_is_the_better_way():
    _, events, weights = small()
    table = decision_curve(np.ones(40), events, weights, np.array([0.05, 0.9]), confidence=0.95)
    assert table.loc[0, ["gain", "gain_lower", "gain_upper"]].tolist() == [0, 0, 0]
    assert table.loc[1, "gain_upper"] < 0


def test_the_table_holds_curve_intervals_and_counts():
    prediction, events, weights = small(replicates=400)
    table = decision_curve(prediction, events, weights, T, confidence=0.9)
    drawn = by_loops(prediction, events, weights, T)
    np.testing.assert_allclose(table["net_benefit"], drawn[0])
    np.testing.assert_allclose(table["net_benefit_lower"], np.quantile(drawn[1:], 0.05, axis=0))
    np.testing.assert_allclose(table["treat_all"], by_loops(np.ones(40), events, weights[:1], T)[0])
    assert (table["treat_none"] == 0).all() and (table["n"] == 40).all() and (table["events"] == events.sum()).all()
    assert (table["gain"] <= table["net_benefit"]).all()


def test_net_benefit_without_events_is_negative_and_nan_at_a_prevalence():
    nobody, weights = np.zeros(3, dtype=bool), np.ones((2, 3))
    assert net_benefit(np.ones(3), nobody, weights, np.array([0.5]))[0, 0] == -1
    assert np.isnan(net_benefit(np.ones(3), nobody, weights, np.array([0.5]), prevalence=0.1)).all()
    assert np.isnan(net_benefit(np.ones(3), nobody, 0 * weights, np.array([0.5]))).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.0])
def test_a_threshold_that_is_no_probability_to_act_from_is_refused(threshold):
    with pytest.raises(ValueError, match="thresholds"):
        net_benefit(P, Y, ONE, np.array([0.5, threshold]))
