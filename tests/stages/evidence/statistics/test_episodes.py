"""Intervals over episodes against SciPy's tests."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from pipeline.stages.evidence.statistics.episodes import DIFFERENCES, FEW_SHOT, Shots, few_shot, few_shot_differences


def drawn(episodes=100, gain=0.03, seed=0):
    """AUCs of two arms that share what the drawn patients bring."""
    rng = np.random.default_rng(seed)
    shared = 0.7 + 0.05 * rng.normal(size=episodes)
    return {
        Shots("adapted", "probe", 5): shared + gain + 0.02 * rng.normal(size=episodes),
        Shots("imagenet", "probe", 5): shared + 0.02 * rng.normal(size=episodes),
        Shots("scratch", "probe", 5): shared - 0.1,
    }


def test_the_mean_over_episodes_has_students_interval():
    aucs = drawn()
    table = few_shot(aucs, n=80, confidence=0.9)
    assert list(table) == FEW_SHOT and table["arm"].tolist() == ["adapted", "imagenet", "scratch"]
    for row, values in zip(table.itertuples(), aucs.values(), strict=True):
        expected = ttest_1samp(values, 0).confidence_interval(0.9)
        assert (row.value, row.lower, row.upper) == pytest.approx((values.mean(), *expected), abs=2e-6)
        assert (row.episodes, row.n) == (100, 80)


def test_the_difference_is_paired_by_episode_and_so_more_exact():
    aucs = drawn()
    table = few_shot_differences(aucs, confidence=0.95)
    assert list(table) == DIFFERENCES and len(table) == 1
    found, (a, b) = table.iloc[0], list(aucs.values())[:2]
    expected = ttest_rel(a, b).confidence_interval(0.95)
    assert (found["value"], found["lower"], found["upper"]) == pytest.approx(((a - b).mean(), *expected), abs=2e-6)
    alone = few_shot(aucs, 80, 0.95).iloc[0]
    assert found["upper"] - found["lower"] < (alone["upper"] - alone["lower"]) / 1.5


def test_episode_that_one_arm_lacks_counts_for_neither_arm():
    aucs = drawn()
    aucs[Shots("adapted", "probe", 5)][:3] = np.nan
    a, b = list(aucs.values())[:2]
    found = few_shot_differences(aucs, 0.95).iloc[0]
    assert found["episodes"] == 97 and found["value"] == pytest.approx((a - b)[3:].mean(), abs=1e-6)


def test_a_single_episode_has_no_interval_and_none_at_all_no_value():
    table = few_shot({Shots("a", "knn", 1): np.array([0.6]), Shots("a", "knn", 2): np.array([np.nan])}, 9, 0.95)
    assert table["value"].tolist()[0] == 0.6 and table["episodes"].tolist() == [1, 0]
    assert table[["lower", "upper"]].isna().all(axis=None) and table["value"].isna().tolist() == [False, True]


def test_limits_stay_in_the_range_of_an_auc():
    found = few_shot({Shots("a", "knn", 1): np.array([1.0, 1.0, 0.9])}, 9, 0.95).iloc[0]
    assert found["upper"] == 1 and found["lower"] < 0.9


def test_methods_and_shots_that_one_arm_lacks_are_not_compared():
    aucs = drawn() | {Shots("adapted", "knn", 1): np.full(10, 0.6)}
    assert few_shot_differences(aucs, 0.95)["method"].tolist() == ["probe"]
    assert few_shot_differences({}, 0.95).empty


def test_other_numbers_of_episodes_are_refused():
    aucs = drawn()
    aucs[Shots("imagenet", "probe", 5)] = np.full(7, 0.5)
    with pytest.raises(ValueError, match="probe, 5 shots: 100 and 7 episodes"):
        few_shot_differences(aucs, 0.95)
