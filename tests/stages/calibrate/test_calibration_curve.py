"""The smooth calibration curve against curves that are known, and the tables of calibration."""

import numpy as np
import pytest

from pipeline.metrics import calibration
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.summary import limits_of
from pipeline.stages.calibrate import calibration_curve

POINTS = np.array([0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
P = (np.arange(4000) + 0.5) / 4000
BOTH = np.arange(8000) < 4000


def temperature(p, value):
    return p ** (1 / value) / (p ** (1 / value) + (1 - p) ** (1 / value))


def wave(p):
    return p + 0.1 * np.sin(2 * np.pi * p)


def drawn(n, seed, value=1.0):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return temperature(p, value), rng.random(n) < p


def curve_of(truth, points):
    """Evaluate uniform predictions whose events happen as often as the truth says; without any random draw."""
    weights = np.concatenate([truth(P), 1 - truth(P)])[None]
    return calibration_curve.smooth_curve(np.tile(P, 2), BOTH, weights, points)[0]


@pytest.mark.parametrize("value", [0.5, 1, 2, 4])
def test_the_curve_of_any_temperature_is_found_without_bias(value):
    found = curve_of(lambda p: temperature(p, value), POINTS)
    np.testing.assert_allclose(found, temperature(POINTS, value), atol=1e-3)


def test_a_curve_that_is_no_logistic_line_is_found_too():
    np.testing.assert_allclose(curve_of(wave, POINTS), wave(POINTS), atol=0.015)


def test_the_curve_is_found_up_to_the_ends_of_the_predictions():
    prediction = 0.2 + 0.6 * P
    truth = 0.1 + 2 * (prediction - 0.5) ** 2  # no logistic line, and steep where the predictions end
    weights, ends = np.concatenate([truth, 1 - truth])[None], np.array([0.2, 0.25, 0.75, 0.8])
    found = calibration_curve.smooth_curve(np.tile(prediction, 2), BOTH, weights, ends)[0]
    np.testing.assert_allclose(found, 0.1 + 2 * (ends - 0.5) ** 2, atol=5e-3)


@pytest.mark.parametrize(("n", "value"), [(60, 1.0), (60, 0.5), (400, 0.5)])
def test_small_samples_give_the_true_curve_on_average(n, value):
    curves = []
    for seed in range(300):
        prediction, events = drawn(n, seed, value)
        curves.append(calibration_curve.smooth_curve(prediction, events, np.ones((1, n)), POINTS[1:-1])[0])
    np.testing.assert_allclose(np.nanmean(curves, axis=0), temperature(POINTS[1:-1], 1 / value), atol=0.015)


def test_nothing_is_said_of_predictions_that_few_cases_have():
    prediction = np.concatenate([np.full(200, 0.1) + np.arange(200) / 4000, [0.9]])
    events = np.arange(201) % 7 == 0
    known = np.isfinite(
        calibration_curve.smooth_curve(prediction, events, np.ones((1, 201)), np.array([0.12, 0.6, 0.9]))
    )
    assert known[0].tolist() == [True, False, False]


def test_a_curve_ignores_other_weightings_and_a_weight_is_a_repetition():
    prediction, events = drawn(200, seed=1, value=0.5)
    prediction = prediction.round(2)
    counts = 1.0 + np.random.default_rng(3).integers(0, 3, 200)
    repeated = np.repeat(np.arange(200), counts.astype(int))
    weights = np.vstack([np.ones(200), 2 * np.ones(200), counts])
    curves = calibration_curve.smooth_curve(prediction, events, weights, POINTS)
    alone = [calibration_curve.smooth_curve(prediction, events, row[None], POINTS)[0] for row in weights]
    np.testing.assert_allclose(curves, alone, rtol=1e-7)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-7)
    twice = [np.tile(known, 2) for known in (prediction, events)]
    np.testing.assert_allclose(calibration_curve.smooth_curve(*twice, np.ones((1, 400)), POINTS)[0], curves[0])
    at_most = calibration_curve.smooth_curve(
        prediction[repeated], events[repeated], np.ones((1, len(repeated))), POINTS
    )
    np.testing.assert_allclose(at_most[0], curves[2], atol=0.02)  # the bandwidth is that of the cases


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_certain_predictions_and_equal_events_have_a_curve(certain):
    prediction = np.concatenate([np.full(30, certain), np.linspace(0.2, 0.8, 30)])
    alike, once = np.full(60, bool(certain)), np.ones((1, 60))
    found = calibration_curve.smooth_curve(prediction, alike, once, np.array([0.5, certain]))[0]
    assert abs(found[0] - certain) < 0.2
    assert np.isnan(found[1])  # thirty certainties that came true say little about those that will not
    assert 0.1 < calibration_curve.smooth_error(prediction, alike, once)[0] < 0.5


def test_the_curve_of_a_constant_prediction_is_the_share_of_events():
    events = np.arange(50) < 15
    constant = np.full(50, 0.6)
    assert calibration_curve.smooth_curve(constant, events, np.ones((1, 50)), np.array([0.6]))[0, 0] == pytest.approx(
        0.3
    )
    assert calibration_curve.smooth_error(constant, events, np.ones((1, 50)))[0] == pytest.approx(0.3)


def test_the_smooth_error_is_the_mean_distance_of_curve_and_prediction():
    weights = np.concatenate([P, 1 - P])[None]
    both = np.tile(P, 2)
    assert calibration_curve.smooth_error(both, BOTH, weights)[0] == pytest.approx(0, abs=1e-3)
    overconfident = temperature(both, 0.5)
    assert calibration_curve.smooth_error(overconfident, BOTH, weights)[0] == pytest.approx(0.096574, abs=1e-3)


def test_points_lie_within_the_predictions_and_rise():
    prediction = np.array([1e-4, 2e-4, 0.01, 0.3])
    grid = calibration_curve.grid_of(prediction)
    assert (grid[0], grid[-1]) == (1e-4, 0.3)
    assert (np.diff(grid) > 0).all()
    assert (grid < 0.01).sum() > 20  # rare events have a curve, too


def test_the_intervals_of_the_curve_hold_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(60):
        prediction, events = drawn(200, seed, 0.5)
        weights = cluster_weights(np.arange(200).astype(str), 200, seed)
        table = calibration_curve.curve_table(prediction, events, weights, 0.9)
        truth = temperature(table["prediction"].to_numpy(), 2)
        inside.append(((table["observed_lower"] <= truth) & (truth <= table["observed_upper"])).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)


def test_the_curve_table_has_only_informative_points():
    prediction, events = drawn(60, seed=4)
    table = calibration_curve.curve_table(prediction, events, cluster_weights(np.arange(60).astype(str), 50, 0), 0.95)
    assert (table["prediction"].min() < 0.2, table["prediction"].max() > 0.8) == (True, True)
    assert list(table) == ["prediction", "observed", "observed_lower", "observed_upper"]
    assert 20 < len(table) < len(calibration_curve.grid_of(prediction))
    assert np.isfinite(table.to_numpy()).all()
    few = calibration_curve.curve_table(prediction[:3], events[:3], np.ones((5, 3)), 0.95)
    assert (list(few), len(few)) == (list(table), 0)


def test_the_distribution_counts_every_case_once_in_its_bin():
    prediction, events = np.array([0.0, 0.1, 0.55, 1.0, 1.0]), np.array([False, True, True, True, False])
    table = calibration_curve.distribution(prediction, events, 5)
    assert table["events"].tolist() == [1, 0, 1, 0, 1]
    assert table["others"].tolist() == [1, 0, 0, 0, 1]
    assert table["lower"].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert table["upper"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])


def test_calibration_row_has_every_metric_with_interval_and_null():
    prediction, events = drawn(300, seed=21, value=0.5)
    weights = cluster_weights(np.arange(300).astype(str), 200, seed=1)
    row = calibration_curve.calibration_row(
        prediction, events, np.arange(len(events)).astype(str), weights, confidence=0.95, bins=10, seed=2
    )
    distances = ["ece_width", "ece_mass", "squared_error_debiased", "mcb", "ici"]
    level = ["observed_expected", "calibration_intercept", "calibration_slope"]
    names = limits_of(*level, *distances, "dsc", "unc", *(f"{name}_null" for name in distances))
    assert list(row) == ["n", "events", "bins", *names]
    assert (row["n"], row["events"], row["bins"]) == (300, events.sum(), 10)
    assert row["calibration_slope"] == pytest.approx(calibration.calibration_slope(prediction, events, weights[:1])[0])
    assert row["mcb"] - row["dsc"] + row["unc"] == pytest.approx(((prediction - events) ** 2).mean())
    for name in distances:
        assert row[f"{name}_lower"] <= row[name] <= row[f"{name}_upper"]
        assert row[f"{name}_null_lower"] < row[f"{name}_null"] < row[f"{name}_null_upper"] < row[name]
    assert row == calibration_curve.calibration_row(
        prediction, events, np.arange(len(events)).astype(str), weights, confidence=0.95, bins=10, seed=2
    )


def test_perfect_predictions_seldom_leave_the_band_of_perfect_calibration():
    outside = []
    for seed in range(30):
        prediction, events = drawn(60, seed)
        weights = cluster_weights(np.arange(60).astype(str), 20, seed)
        row = calibration_curve.calibration_row(
            prediction, events, np.arange(len(events)).astype(str), weights, confidence=0.95, bins=10, seed=1000 + seed
        )
        outside += [row[f"{name}"] > row[f"{name}_null_upper"] for name in ("ece_width", "ece_mass", "mcb", "ici")]
    assert 0 < np.mean(outside) < 0.15  # 5 % are expected


@pytest.mark.parametrize("events", [np.zeros(60, dtype=bool), np.arange(60) >= 30])
def test_calibration_row_is_empty_where_metrics_do_not_exist(events):
    prediction = np.linspace(0.01, 0.99, 60)
    weights = cluster_weights(np.arange(60).astype(str), 50, seed=1)
    row = calibration_curve.calibration_row(
        prediction, events, np.arange(len(events)).astype(str), weights, confidence=0.95, bins=10, seed=2
    )
    assert row["calibration_slope"] is None
    assert np.isfinite([row["ece_width"], row["mcb"], row["ici"], row["ici_upper"]]).all()
