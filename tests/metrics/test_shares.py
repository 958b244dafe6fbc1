"""Intervals of shares, and of an AUC of 1, against closed forms and an exact law."""

import numpy as np
import pytest
from scipy.stats import beta, norm

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.discrimination import roc_auc
from pipeline.metrics.shares import auc_estimate, auc_limit, largest_effect, share_of, wilson


def names(n, images=1):
    return np.repeat(np.arange(n), images).astype(str)


def test_a_share_of_all_has_the_interval_of_wilson():
    """7 of 7: 7 / (7 + z^2); the exact lower limit is .59."""
    found = share_of(np.ones(7), np.ones(7), names(7), weights=cluster_weights(names(7), 200, 0), confidence=0.95)
    z = norm.ppf(0.975)
    assert (found.value, found.upper) == (1, 1)
    assert found.lower == pytest.approx(7 / (7 + z**2))
    assert abs(found.lower - beta.ppf(0.025, 7, 1)) < 0.06


def test_equal_images_of_a_patient_count_once():
    marks = np.random.default_rng(0).random(40) < 0.7
    one = share_of(marks, np.ones(40), names(40), weights=cluster_weights(names(40), 4000, 0), confidence=0.95)
    many = share_of(
        np.repeat(marks, 5), np.ones(200), names(40, 5), weights=cluster_weights(names(40, 5), 4000, 0), confidence=0.95
    )
    assert [many.lower, many.upper] == pytest.approx([one.lower, one.upper])
    assert [one.lower, one.upper] == pytest.approx(wilson(marks.sum(), 40), abs=0.01)
    assert largest_effect(names(40, 5)) == 5
    alone, four = (
        share_of(np.ones(n), np.ones(n), names(9, n // 9), weights=np.ones((3, n)), confidence=0.95) for n in (9, 36)
    )
    assert alone == four


def test_no_case_gives_no_share():
    found = share_of(np.ones(3), np.zeros(3), names(3), weights=np.ones((3, 3)), confidence=0.95)
    assert (found.value, found.lower, found.upper) == (None, None, None)


def test_an_auc_of_one_has_a_lower_limit_that_rises_with_the_cases():
    """One event above one other: its AUC could be as low as 1 / (1 + z^2), the closed form of the equation."""
    z = norm.ppf(0.975)
    assert auc_limit(1, 1, z) == pytest.approx(1 / (1 + z**2))
    assert auc_limit(3, 3, z) < auc_limit(7, 7, z) < auc_limit(50, 50, z) < 1
    events = np.arange(14) < 7
    values = roc_auc(events.astype(float), events, cluster_weights(names(14), 50, 0))
    found = auc_estimate(values, events, names(14), 0.95)
    assert (found.value, found.upper) == (1, 1) and found.lower == pytest.approx(auc_limit(7, 7, z))
    turned = auc_estimate(1 - values, events, names(14), 0.95)
    assert (turned.value, turned.lower) == (0, 0) and turned.upper == pytest.approx(1 - found.lower)


def test_the_limit_of_an_auc_of_one_is_an_auc_that_rarely_separates():
    """Binormal scores whose AUC is the limit separate 8 from 8 about as often as half of the level leaves."""
    limit, rng = auc_limit(8, 8, norm.ppf(0.975)), np.random.default_rng(0)
    others = rng.normal(size=(20000, 8))
    events = rng.normal(size=(20000, 8)) + np.sqrt(2) * norm.ppf(limit)
    assert 0.005 < (others.max(axis=1) < events.min(axis=1)).mean() < 0.05
