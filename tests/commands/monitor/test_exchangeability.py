"""Whether evidence of drift comes when there is one, and stays away when there is none."""

import numpy as np
import pytest

from pipeline.commands.monitor.exchangeability import conformal_ranks, drift, likelihood_ratios

ALIKE = 400  # cohorts; the standard error of a share of .05 is .011


def streams(seed, cohorts, reference, new, change=lambda values: values):
    rng = np.random.default_rng(seed)
    for cohort in range(cohorts):
        values = change(rng.normal(size=new))
        yield rng.normal(size=reference), values, cohort


def test_ranks_are_uniform_and_unrelated_where_nothing_changed():
    ranks = np.array([conformal_ranks(*stream) for stream in streams(0, 500, 30, 20)])
    assert np.quantile(ranks, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.02)
    assert np.corrcoef(ranks[:, 0], ranks[:, 1])[0, 1] == pytest.approx(0, abs=0.1)
    assert np.corrcoef(ranks[:, 18], ranks[:, 19])[0, 1] == pytest.approx(0, abs=0.1)


def test_ties_are_broken_at_random():
    ranks = conformal_ranks(np.zeros(50), np.zeros(2000), seed=1)
    assert np.quantile(ranks, [0.25, 0.75]) == pytest.approx([0.25, 0.75], abs=0.03)


def test_a_rank_counts_what_came_before_as_well():
    assert conformal_ranks(np.array([0.0]), np.array([1.0, 2.0, -1.0]), seed=0) == pytest.approx(
        [0.75, 0.83, 0.1], abs=0.25
    )
    ranks = conformal_ranks(np.arange(9.0), np.array([100.0, 100.0]), seed=0)
    assert 0.9 <= ranks[0] <= 1 and 9 / 11 <= ranks[1] <= 1


def test_likelihood_ratios_of_uniform_ranks_have_mean_one():
    places = (np.arange(1000) + 0.5) / 1000
    assert likelihood_ratios(places, [-1.0, 0.0, 1.0]).mean(axis=0) == pytest.approx(1)


@pytest.mark.parametrize("only_higher", [True, False])
def test_false_alarms_over_the_whole_stream_are_as_rare_as_promised(only_higher):
    alarms = [drift(*stream, only_higher).max() >= np.log(20) for stream in streams(2, ALIKE, 60, 200)]
    assert np.mean(alarms) < 0.05 + 2 * 0.011


@pytest.mark.parametrize("change", [lambda x: x + 1, lambda x: x - 1, lambda x: 2.5 * x, lambda x: 0.3 * x])
def test_a_change_of_place_or_spread_is_found(change):
    alarms = [drift(*stream).max() >= np.log(100) for stream in streams(3, 40, 100, 200, change)]
    assert np.mean(alarms) > 0.9


def test_lower_values_raise_no_alarm_where_only_higher_ones_matter():
    for stream in streams(4, 20, 100, 200, lambda x: x - 2):
        assert drift(*stream, only_higher=True).max() < np.log(20)


def test_a_late_change_is_found_all_the_same():
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(size=300), rng.normal(1.5, size=100)])
    log_wealth = drift(rng.normal(size=200), values, seed=0)
    assert log_wealth[:300].max() < np.log(20) and log_wealth.max() > np.log(1000)
