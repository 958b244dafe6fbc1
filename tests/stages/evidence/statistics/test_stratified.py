"""AUCs within folds against a count over all pairs; what is drawn together, and what counts twice."""

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import log_loss as log_loss_of_sklearn

from pipeline.metrics import discrimination
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.paired_tests import minimum_detectable_difference
from pipeline.metrics.questions import both_ways
from pipeline.stages.evidence.statistics.runs import Key, Runs
from pipeline.stages.evidence.statistics.stratified import (
    auc,
    difference_of,
    log_loss,
    replicated,
    resample,
    widened,
)


def cases(n=60, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n)
    scores = rng.random((n, n_classes)).round(1) + 0.1 + 0.4 * np.eye(n_classes)[labels]
    folds = rng.integers(3, size=n).astype(str)
    return scores / scores.sum(axis=1, keepdims=True), labels, folds, rng.integers(4, size=(5, n)).astype(float)


def by_all_pairs(scores, events, folds, weights):
    won = pairs = 0.0
    for i, j in product(np.flatnonzero(events), np.flatnonzero(~events)):
        if folds[i] == folds[j]:
            won += weights[i] * weights[j] * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2)
            pairs += weights[i] * weights[j]
    return won / pairs


def test_pairs_of_one_fold_are_compared_and_no_others():
    probabilities, labels, folds, weights = cases()
    expected = [by_all_pairs(probabilities[:, 1], labels == 1, folds, row) for row in weights]
    np.testing.assert_allclose(auc(probabilities, labels, folds, weights), expected)
    one_fold = auc(probabilities, labels, np.full(60, "0"), weights)
    np.testing.assert_allclose(one_fold, discrimination.roc_auc(probabilities[:, 1], labels == 1, weights))


def test_another_scale_in_each_fold_changes_nothing():
    probabilities, labels, folds, weights = cases()
    shifted = both_ways(probabilities[:, 1] / (1.0 + folds.astype(int)))
    np.testing.assert_allclose(auc(shifted, labels, folds, weights), auc(probabilities, labels, folds, weights))
    assert (
        discrimination.macro_auc(shifted, labels, weights)[0]
        != discrimination.macro_auc(probabilities, labels, weights)[0]
    )


def test_more_classes_are_averaged_one_against_the_rest():
    probabilities, labels, folds, weights = cases(n_classes=3)
    each = [by_all_pairs(probabilities[:, c], labels == c, folds, weights[0]) for c in range(3)]
    assert auc(probabilities, labels, folds, weights[:1])[0] == pytest.approx(np.mean(each))
    assert np.isnan(auc(probabilities, np.minimum(labels, 1), folds, weights)).all()


def test_labels_by_themselves_count_where_they_are_known():
    probabilities, _, folds, weights = cases(n_classes=3)
    labels = np.random.default_rng(1).choice([0, 1, np.nan], size=(60, 3))
    labels[:, 2] = np.nan
    known = np.isfinite(labels)
    each = [
        by_all_pairs(probabilities[k, c], labels[k, c] == 1, folds[k], weights[0, k]) for c, k in enumerate(known.T[:2])
    ]
    assert auc(probabilities, labels, folds, weights[:1])[0] == pytest.approx(np.mean(each))
    losses = -np.log(np.where(labels == 1, probabilities, 1 - probabilities))
    expected = (np.where(known, losses, 0) * weights[0][:, None]).sum() / (known * weights[0][:, None]).sum()
    assert log_loss(probabilities, labels, folds, weights[:1])[0] == pytest.approx(expected)
    assert np.isnan(auc(probabilities, np.full((60, 3), np.nan), folds, weights)).all()


def test_log_loss_is_that_of_scikit_learn():
    probabilities, labels, folds, weights = cases(n_classes=3)
    expected = log_loss_of_sklearn(labels, probabilities, sample_weight=weights[1])
    assert log_loss(probabilities, labels, folds, weights)[1] == pytest.approx(expected)


def of_patients(patients, folds=None):
    n = len(patients)
    folds = np.full(n, "0") if folds is None else folds
    probabilities, labels, _, _ = cases(n)
    key = Key("probe", "adapted", 0.5, 0)
    names = np.arange(n).astype(str)
    return Runs(names, np.array(patients), folds, labels, names, {key: probabilities}, {key: 10.0})


def test_a_patient_of_two_sets_is_drawn_as_often_in_both():
    first, second = resample([of_patients(["a", "b", "b"]), of_patients(["b", "c", "a", "d"])], Bootstrap(100, 0.95, 0))
    assert first.weights.shape == (101, 3) and second.weights.shape == (101, 4)
    np.testing.assert_array_equal(first.weights[:, [0, 1, 1]], np.c_[second.weights[:, [2, 0]], first.weights[:, 2]])
    assert (first.weights[0] == 1).all() and (second.weights[1:, 1] != second.weights[1:, 0]).any()


def test_draws_are_drawn_again_by_whole_ones_and_alike_each_time():
    (drawn,) = resample([of_patients(["a", "b"])], Bootstrap(500, 0.95, 3))
    shares = drawn.shares(3)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[0], 1 / 3)
    assert shares[1:].var() == pytest.approx((1 / 3) * (2 / 3) / 3, rel=0.1)  # of a multinomial share of three
    np.testing.assert_array_equal(shares, drawn.shares(3))
    assert (drawn.shares(1) == 1).all()


def test_replicates_are_widened_about_the_sample():
    folds = (np.arange(40) % 4).astype(str)
    runs = of_patients([str(number) for number in range(40)], folds)
    (key,) = runs.probabilities
    (drawn,) = resample([runs], Bootstrap(200, 0.95, 0))
    plain = auc(runs.probabilities[key], runs.labels, folds, drawn.weights)
    found = replicated(runs, key, metric=auc, weights=drawn.weights, among=np.ones(40, dtype=bool))
    assert found[0] == plain[0]
    np.testing.assert_allclose(found - plain[0], np.sqrt(1.5) * (plain - plain[0]))
    assert widened(plain, 4.0).var() > 3 * plain.var()


def test_difference_has_an_interval_and_a_minimum_detectable_difference():
    values = np.r_[0.1, np.random.default_rng(0).normal(0.1, 0.02, 5000)]
    value, lower, upper, least = difference_of(values, 0.95)
    assert (value, lower, upper) == pytest.approx((0.1, 0.1 - 1.96 * 0.02, 0.1 + 1.96 * 0.02), abs=0.003)
    assert least == pytest.approx(minimum_detectable_difference(0.02), rel=0.05)
    assert difference_of(np.full(10, np.nan), 0.95) == (None, None, None, None)
