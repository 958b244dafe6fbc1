"""Levels of intervals: their factor, where it comes from, and what it does to an interval."""

import numpy as np
import pytest
from scipy.stats import t

from pipeline.metrics.bootstrap import cluster_weights, estimate
from pipeline.metrics.levels import Level, coupling, expanded, factor_of, halved, level_for, quantile_of


def test_folds_are_coupled_by_as_much_as_was_run_and_learnt_from():
    folds = np.arange(50).astype(int) % 5
    assert coupling(folds.astype(str), folds >= 0) == 2
    assert coupling(folds.astype(str), folds == 0) == 1
    assert coupling(folds.astype(str), folds < 3, fraction=0.5) == pytest.approx(1 + 0.5 * 2 / 4)
    assert coupling(np.full(50, "final"), folds >= 0) == 1


def test_coupling_of_folds_is_the_variance_ratio_under_random_labels():
    """Sum over folds of S_k (S - S_k), S_k being the mean of noise in fold k: the nearest-mean classifier by hand."""
    noise = np.random.default_rng(0).normal(size=(20000, 5))
    each = noise * (noise.sum(axis=1, keepdims=True) - noise)
    assert each.sum(axis=1).var() / each.var(axis=0).sum() == pytest.approx(
        coupling(np.arange(5), np.ones(5, bool)), rel=0.05
    )


def test_the_factor_widens_an_interval_by_its_root():
    values = np.random.default_rng(0).normal(size=400)
    weights = cluster_weights(np.arange(400).astype(str), 20000, 0)

    def mean_of(some):
        return some @ values / some.sum(axis=1)

    plain, wide = (estimate(mean_of, weights, level) for level in (0.95, Level(0.95, 2.0)))
    assert (wide.upper - wide.lower) / (plain.upper - plain.lower) == pytest.approx(np.sqrt(2), rel=0.05)
    assert quantile_of(Level(0.95, 4.0)) == pytest.approx(2 * quantile_of(0.95))
    assert expanded(0.9) == 0.9 and factor_of(0.9) == 1


def test_few_patients_have_the_interval_of_student():
    """The mean of n patients: t times s / sqrt(n) with s^2 over n - 1, where the bootstrap has it over n."""
    patients = np.arange(10).astype(str)
    level = level_for(0.95, np.repeat(patients, 3))
    assert quantile_of(level) == pytest.approx(t.ppf(0.975, 9) * np.sqrt(10 / 9))
    assert level == 0.95


def test_folds_widen_by_the_correction_of_nadeau_and_bengio():
    patients = np.arange(1000).astype(str)
    folds = (np.arange(1000) % 5).astype(str)
    alone = factor_of(level_for(0.95, patients, np.full(1000, "final")))
    assert factor_of(level_for(0.95, patients, folds)) == pytest.approx(5 * (1 / 5 + 1 / 4) * alone)
    assert factor_of(halved(Level(0.95, 2.25))) == 1.625
    assert alone == pytest.approx(1, abs=0.005)
