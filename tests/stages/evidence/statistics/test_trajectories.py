"""Curves against NumPy's own interpolation; intervals over folds against SciPy."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.paired_tests import minimum_detectable_difference
from pipeline.stages.evidence.statistics.trajectories import Drawn, at, mean_losses, over_folds, reached


def test_a_level_is_reached_where_a_straight_line_first_crosses_it():
    curve = np.array([[0.9, 0.7, 0.4, 0.6, 0.1]])
    for level, epoch in ((0.95, 0), (0.9, 0), (0.8, 0.5), (0.4, 2), (0.55, 1.5), (0.25, 3.7), (0.1, 4)):
        assert reached(curve, np.array([level]))[0] == pytest.approx(epoch)
    assert np.isnan(reached(curve, np.array([0.05]))[0])


def test_curves_are_read_between_epochs_as_numpy_does():
    rng = np.random.default_rng(0)
    curves, epochs = rng.random((50, 7)), np.append(rng.uniform(0, 6, 48), [0, 6])
    np.testing.assert_allclose(
        at(curves, epochs), [np.interp(x, range(7), c) for x, c in zip(epochs, curves, strict=True)]
    )
    assert np.isnan(at(curves[:1], np.array([np.nan]))[0])


def test_patient_drawn_twice_counts_twice_and_unknown_labels_do_not():
    drawn = Drawn(np.array(["a", "b"]), np.array([[1.0, 1.0], [2.0, 0.0]]))
    losses = np.array([[0.1, 0.4, 0.7, np.nan], [0.2, 0.2, 0.8, 0.5]])
    found = mean_losses(losses, drawn.of(np.array(["a", "b", "b", "a"])))
    np.testing.assert_allclose(found, [[0.4, 0.4], [0.1, 0.2]])


def test_where_folds_scatter_the_interval_is_students():
    values = np.tile(np.array([[0.1], [0.5], [0.2], [0.4]]), 100)
    found = over_folds(values, np.ones_like(values), 0.95)
    expected = ttest_1samp(values[:, 0], 0).confidence_interval(0.95)
    assert (found.value, found.lower, found.upper) == pytest.approx((0.3, expected.low, expected.high))
    assert found.minimum_detectable == pytest.approx((3.182446 + 0.978472) * values[:, 0].std(ddof=1) / 2, rel=1e-5)


def test_where_folds_agree_the_interval_is_that_of_the_patients():
    values = np.random.default_rng(0).normal(size=(3, 1001))
    values[:, 0] = 0.2
    found, drawn = over_folds(values, np.ones_like(values), 0.95), values.mean(axis=0)
    assert (found.lower, found.upper) == pytest.approx((estimate_of(drawn, 0.95).lower, estimate_of(drawn, 0.95).upper))
    assert found.minimum_detectable == pytest.approx(minimum_detectable_difference(drawn[1:].std(ddof=1)))


def test_a_fold_of_twice_the_patients_counts_twice():
    values, shares = np.array([[0.9] * 50, [0.3] * 50]), np.array([[40.0] * 50, [80.0] * 50])
    assert over_folds(values, shares, 0.95).value == pytest.approx(0.5)
