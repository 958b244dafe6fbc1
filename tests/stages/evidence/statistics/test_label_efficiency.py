"""Label efficiency on curves that are known, and on cohorts in which it was planted."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.stages.evidence.statistics.label_efficiency import (
    LABEL_EFFICIENCY,
    efficiency_of,
    first_at,
    label_efficiency,
    rising,
)
from pipeline.stages.evidence.statistics.learning_curves import Curve
from pipeline.stages.evidence.statistics.stratified import resample
from tests.stages.evidence.statistics.cohorts import planted

PATIENTS = np.array([50.0, 100, 200, 400])


def sure(values, patients=PATIENTS):
    """A curve of which every replicate is the sample, but for a little noise that all points share."""
    noise = np.r_[0, np.random.default_rng(0).normal(0, 1e-4, 200)][:, None]
    return Curve(patients / patients[-1], patients, [1] * len(patients), np.array(values) + noise)


def found(arm, reference):
    return dict(zip(LABEL_EFFICIENCY[3:], efficiency_of(sure(arm), sure(reference), "imagenet", 0.95), strict=True))


def test_rising_curves_are_those_of_scipy():
    values = np.random.default_rng(0).random((200, 5))
    np.testing.assert_allclose(rising(values), [isotonic_regression(row).x for row in values])


def test_goals_are_found_where_numpy_interpolates_them():
    curves, goals = np.sort(np.random.default_rng(0).random((200, 5))), np.random.default_rng(1).random(200)
    x = np.log([1, 2, 4, 8, 16])
    expected = [np.interp(goal, row, x) if goal <= row[-1] else np.nan for row, goal in zip(curves, goals, strict=True)]
    np.testing.assert_allclose(first_at(curves, x, goals), expected)


def test_an_arm_as_good_with_a_quarter_has_a_ratio_of_four():
    row = found([0.7, 0.8, 0.85, 0.9], [0.6, 0.65, 0.7, 0.8])
    assert row["ratio"] == pytest.approx(4) and row["lower"] == pytest.approx(row["upper"], abs=0.05)
    assert (row["patients"], row["reference_patients"]) == (100, 400)
    assert row["words"] == "4 times fewer labelled patients for the same AUC"
    between = found([0.7, 0.8, 0.85, 0.9], [0.6, 0.65, 0.7, 0.825])
    assert between["ratio"] == pytest.approx(400 / np.sqrt(100 * 200))


def test_exchanged_arms_invert_the_ratio():
    row = found([0.6, 0.65, 0.7, 0.8], [0.7, 0.8, 0.85, 0.9])
    assert row["ratio"] == pytest.approx(1 / 4) and row["patients"] is None
    assert row["words"] == "4 times more labelled patients for the same AUC"


def test_the_same_curve_has_a_ratio_of_one_even_on_a_plateau():
    for curve in ([0.6, 0.7, 0.8, 0.9], [0.7, 0.8, 0.8, 0.8], [0.8, 0.7, 0.9, 0.85]):
        assert found(curve, curve)["ratio"] == pytest.approx(1)


def test_what_the_smallest_fraction_does_already_is_a_bound():
    row = found([0.8, 0.82, 0.85, 0.9], [0.6, 0.65, 0.7, 0.75])
    assert (row["ratio"], row["upper"]) == (8, None) and row["lower"] == pytest.approx(8)
    assert row["words"].startswith("at least 8 times fewer")
    mirrored = found([0.6, 0.65, 0.7, 0.75], [0.8, 0.82, 0.85, 0.9])
    assert (mirrored["ratio"], mirrored["lower"]) == (1 / 8, None) and mirrored["upper"] == pytest.approx(1 / 8)
    assert mirrored["words"].startswith("at least 8 times more")


def test_a_reference_no_better_than_chance_gives_no_ratio():
    row = found([0.6, 0.65, 0.7, 0.8], [0.49, 0.5, 0.51, 0.5])
    assert row["ratio"] is None and row["words"] == "no evidence that imagenet is better than chance with all patients"
    short = efficiency_of(sure([0.8], PATIENTS[-1:]), sure([0.7], PATIENTS[-1:]), "imagenet", 0.95)
    assert short[0] is None and "evidence.fractions" in short[-1]


def test_a_planted_ratio_of_four_is_found():
    rows = []
    for seed in range(60):
        runs = planted(seed, ratio=4.0)
        (drawn,) = resample([runs], Bootstrap(200, 0.95, seed + 1000))
        rows.append(label_efficiency(runs, drawn).iloc[0])
    ratios = np.array([row["ratio"] for row in rows])
    assert 3 < np.median(ratios) < 5
    assert np.mean([row["lower"] <= 4 and not row["upper"] < 4 for row in rows]) >= 0.9
    assert np.mean([row["lower"] > 1 for row in rows]) > 0.3  # intervals are not so wide that they say nothing
