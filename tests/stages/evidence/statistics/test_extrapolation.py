"""Inverse power laws that are known are found again, and what a curve does not tell is said."""

import numpy as np
import pytest

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.stages.evidence.statistics.extrapolation import (
    EXPONENTS,
    EXTRAPOLATION,
    extrapolation,
    line_through,
    more_for,
    needed,
    power_laws,
)
from pipeline.stages.evidence.statistics.learning_curves import Curve
from pipeline.stages.evidence.statistics.stratified import resample
from tests.stages.evidence.statistics.cohorts import planted

PATIENTS = np.array([50.0, 100, 200, 400, 800])


def curve(a, b, c, noise=1e-5):
    exact = 1 - (a * PATIENTS**-b + c)
    chance = np.random.default_rng(0).normal(0, noise, (200, 5))
    return Curve(PATIENTS / 800, PATIENTS, [1] * 5, np.vstack([exact, exact + chance]))


@pytest.mark.parametrize(
    ("a", "b", "c"), [(1.6, EXPONENTS[37], 0.05), (0.8, EXPONENTS[25], 0.0), (5, EXPONENTS[50], 0.2)]
)
def test_a_law_is_found_again(a, b, c):
    laws = power_laws(PATIENTS, 1 - curve(a, b, c).values)
    assert (laws.a[0], laws.b[0], laws.c[0]) == pytest.approx((a, b, c), abs=1e-6)


def test_a_line_within_limits_is_the_best_there_is():
    rng = np.random.default_rng(0)
    x, errors, weights = rng.random(5), rng.normal(0.3, 0.5, (100, 5)), rng.dirichlet(np.ones(5))
    a, c, left = line_through(x, errors, weights)
    assert (a >= 0).all() and (c >= 0).all() and (c <= 1).all()
    slopes, heights = np.meshgrid(np.linspace(0, 5, 201), np.linspace(0, 1, 101))
    for row, least in zip(errors, left, strict=True):
        grid = ((row - slopes[..., None] * x - heights[..., None]) ** 2) @ weights
        assert least <= grid.min() + 1e-12 and least == pytest.approx(grid.min(), abs=2e-3)


def test_the_patients_needed_are_those_of_the_law():
    b = EXPONENTS[37]
    value, lower, upper, words = more_for(curve(1.6, b, 0.05), 0.9, 0.95)
    truth = (1.6 / 0.05) ** (1 / b) - 800
    assert value == pytest.approx(truth, abs=1) and lower < truth < upper < 1.1 * truth
    assert words == f"about {value} more labelled patients for an AUC of 0.9 ({lower} to {upper})"


def test_a_goal_reached_or_out_of_reach_is_said_so():
    b = EXPONENTS[37]
    assert more_for(curve(1.6, b, 0.05), 0.8, 0.95) == (0, None, None, "an AUC of 0.8 is reached already")
    value, _, upper, words = more_for(curve(1.6, b, 0.05), 0.96, 0.95)
    assert (value, upper) == (None, None) and words.startswith("the curve levels off below an AUC of 0.96")
    far = more_for(curve(1.6, b, 0.05), 0.945, 0.95)
    assert far[0] is None and "not estimable" in far[-1]
    assert np.isinf(needed(power_laws(PATIENTS, 1 - curve(1.6, b, 0.05).values), 0.04)).all()


def test_an_uncertain_curve_gives_no_upper_limit():
    value, lower, upper, words = more_for(curve(1.6, EXPONENTS[37], 0.05, noise=0.02), 0.9, 0.95)
    assert upper is None and lower <= value and words.endswith("no upper limit")


def test_two_points_are_no_law():
    short = Curve(np.array([0.5, 1]), PATIENTS[:2], [1, 1], curve(1.6, 0.5, 0.05).values[:, :2])
    assert more_for(short, 0.9, 0.95)[:3] == (None, None, None)


def test_the_interval_holds_the_truth_of_simulated_cohorts():
    truth, held = (1.6 / 0.05) ** 2 - 400, []
    for seed in range(20):
        runs = planted(seed, ratio=1.0, best=0.95)
        (drawn,) = resample([runs], Bootstrap(100, 0.95, seed + 1000))
        table = extrapolation(runs, 0.9, drawn)
        assert list(table.columns) == EXTRAPOLATION and len(table) == 2
        row = table.iloc[0]
        reached = row["words"].endswith("already")
        lower, upper = np.array([row["lower"], row["upper"]], dtype=float)  # None becomes NaN, which limits nothing
        held.append(reached or not (lower > truth or upper < truth))
    assert np.mean(held) >= 0.8
