"""A wealth that is wagered on outcomes as they come."""

import numpy as np
import pytest

from pipeline.commands.monitor.martingale import SWITCHING, wealth


def test_fair_bets_leave_the_wealth_what_it_is_on_average():
    """Of two outcomes that are equally likely, each bettor gains by the one what he loses by the other."""
    rng = np.random.default_rng(0)
    past, win = rng.uniform(0.5, 1.5, size=(9, 3)), np.array([0.4, 0.0, -0.7])
    before = np.exp(wealth(past)[-1])
    after = [np.exp(wealth(np.vstack([past, 1 + end]))[-1]) for end in (win, -win)]
    assert np.mean(after) == pytest.approx(before)


def test_a_single_bettor_holds_the_product_of_his_gains():
    assert np.exp(wealth(np.array([[2.0], [0.5], [3.0]]))) == pytest.approx([2, 1, 3])


def test_one_who_begins_to_win_late_is_not_broke():
    """He begins with a hundredth of half of the wealth at least, so that is the most that he is late by."""
    gains = np.ones((400, 2))
    gains[:300, 1], gains[300:, 1] = 0.5, 2.0
    after = wealth(gains)[-1]
    assert 100 * np.log(2 * (1 - SWITCHING)) + np.log(SWITCHING / 2) - 1 < after < 100 * np.log(2)


def test_nobody_is_watched_without_outcomes():
    assert wealth(np.empty((0, 3))).shape == (0,)
