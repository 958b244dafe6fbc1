"""The wealth of a mixture of test martingales."""

import numpy as np
import pytest

from pipeline.commands.monitor.martingale import SWITCHING, wealth


def test_factors_of_mean_one_leave_the_expected_wealth_unchanged():
    """Two outcomes are equally likely, and the two factors of each component have mean 1."""
    rng = np.random.default_rng(0)
    past, change = rng.uniform(0.5, 1.5, size=(9, 3)), np.array([0.4, 0.0, -0.7])
    before = np.exp(wealth(past)[-1])
    after = [np.exp(wealth(np.vstack([past, 1 + sign]))[-1]) for sign in (change, -change)]
    assert np.mean(after) == pytest.approx(before)


def test_a_single_component_has_the_product_of_its_factors():
    assert np.exp(wealth(np.array([[2.0], [0.5], [3.0]]))) == pytest.approx([2, 1, 3])


def test_a_component_that_grows_late_has_wealth_to_grow_from():
    """It starts from at least half of one hundredth of the wealth, which bounds the delay."""
    factors = np.ones((400, 2))
    factors[:300, 1], factors[300:, 1] = 0.5, 2.0
    after = wealth(factors)[-1]
    assert 100 * np.log(2 * (1 - SWITCHING)) + np.log(SWITCHING / 2) - 1 < after < 100 * np.log(2)


def test_without_outcomes_there_is_no_wealth():
    assert wealth(np.empty((0, 3))).shape == (0,)
