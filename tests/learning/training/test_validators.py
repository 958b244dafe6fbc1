import math

import numpy as np
import pytest
from scipy.stats import entropy, multivariate_normal
from sklearn.metrics import log_loss, mutual_info_score

from pipeline.learning.training.validators import (
    deep_embedded_validation,
    density_ratio,
    effective_sample_size,
    information_maximisation,
    log_losses,
    soft_neighbourhood_density,
    source_loss,
)

SURE = 60.0


def sure_of(classes, k):
    """Logits of a model that has no doubt."""
    return SURE * np.eye(k)[np.asarray(classes)]


def shares_of(logits):
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True)


def test_the_source_loss_is_scikit_learns_and_bears_huge_logits():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    assert source_loss(logits, labels) == pytest.approx(log_loss(labels, shares_of(logits), labels=[0, 1, 2]))
    np.testing.assert_allclose(log_losses(np.array([[1e4, 0.0], [1e4, 0.0]]), np.array([0, 1])), [0, 1e4])


def test_information_is_that_of_the_table_of_cases_and_predictions():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 4))
    shares = shares_of(logits)
    expected = entropy(shares.mean(axis=0)) - entropy(shares, axis=1).mean()
    assert information_maximisation(logits) == pytest.approx(expected)
    classes = rng.integers(0, 4, 30)
    assert information_maximisation(sure_of(classes, 4)) == pytest.approx(mutual_info_score(classes, classes))


def test_collapsing_and_knowing_nothing_are_worst_by_information():
    useful = 2 * np.eye(3)[np.arange(30) % 3]
    collapsed, ignorant = sure_of([1] * 30, 3), np.zeros((30, 3))
    assert information_maximisation(collapsed) == pytest.approx(0, abs=1e-12)
    assert information_maximisation(ignorant) == pytest.approx(0, abs=1e-12)
    assert 0.1 < information_maximisation(useful) < information_maximisation(sure_of(np.arange(30) % 3, 3))
    assert information_maximisation(sure_of(np.arange(30) % 3, 3)) == pytest.approx(math.log(3))


def test_sure_clusters_have_the_density_of_their_sizes():
    """A case of a cluster of m is equally like m - 1 others and unlike the rest."""
    logits = sure_of([0] * 8 + [1] * 4, 2)
    assert soft_neighbourhood_density(logits) == pytest.approx((8 * math.log(7) + 4 * math.log(3)) / 12, abs=1e-5)


def test_density_is_that_of_the_formula_pair_by_pair():
    shares = shares_of(np.random.default_rng(0).normal(size=(7, 3)))
    entropies = []
    for i, one in enumerate(shares):
        similar = [
            math.exp(one @ other / np.linalg.norm(one) / np.linalg.norm(other) / 0.3)
            for j, other in enumerate(shares)
            if i != j
        ]
        entropies.append(entropy(np.array(similar) / sum(similar)))
    assert soft_neighbourhood_density(np.log(shares), 0.3) == pytest.approx(np.mean(entropies))


def test_scattered_predictions_are_less_dense_than_clustered_ones():
    rng = np.random.default_rng(0)
    clustered = sure_of(np.arange(60) % 3, 3) / 10 + 0.3 * rng.normal(size=(60, 3))
    scattered = 2 * rng.normal(size=(60, 3))
    assert soft_neighbourhood_density(clustered) > soft_neighbourhood_density(scattered) + 0.05


def test_density_alone_prefers_collapse_as_its_description_warns():
    collapsed, useful = sure_of([0] * 20, 2), sure_of(np.arange(20) % 2, 2)
    assert soft_neighbourhood_density(collapsed) == pytest.approx(math.log(19))
    assert soft_neighbourhood_density(collapsed) > soft_neighbourhood_density(useful)
    assert information_maximisation(collapsed) < information_maximisation(useful)


def test_without_a_shift_the_embedded_risk_is_the_source_risk():
    rng = np.random.default_rng(0)
    train, target = rng.normal(size=(300, 50)), rng.normal(size=(200, 50))
    held_out, losses = rng.normal(size=(100, 50)), rng.exponential(size=100)
    assert deep_embedded_validation(train, held_out, target, losses) == pytest.approx(losses.mean(), rel=0.02)
    same = deep_embedded_validation(train, held_out, train, losses)
    assert same == pytest.approx(losses.mean(), rel=1e-3)


def test_under_shift_embedded_risk_is_nearer_the_target_than_source_risk():
    """The loss grows along the first feature, and the target lies further along it."""
    rng = np.random.default_rng(0)
    train, held_out, target = rng.normal(size=(2000, 2)), rng.normal(size=(1000, 2)), rng.normal(size=(2000, 2))
    target[:, 0] += 1
    losses, truth = np.exp(held_out[:, 0] / 2), np.exp(target[:, 0] / 2).mean()
    estimate = deep_embedded_validation(train, held_out, target, losses)
    assert abs(losses.mean() - truth) > 0.6
    assert abs(estimate - truth) < 0.15


def test_the_control_variate_lowers_the_spread_of_the_estimate():
    estimates, plain = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        train, held_out, target = rng.normal(size=(200, 2)), rng.normal(size=(80, 2)), rng.normal(size=(200, 2))
        target[:, 0] += 1
        losses = 1 + np.exp(held_out[:, 0] / 2)
        estimates.append(deep_embedded_validation(train, held_out, target, losses))
        plain.append(np.mean(density_ratio(train, held_out, target) * losses))
    assert np.std(estimates) < 0.7 * np.std(plain)


def test_weights_are_the_ratio_of_the_densities():
    rng = np.random.default_rng(0)
    centre = np.array([0.8, -0.3])
    train, target, held_out = rng.normal(size=(4000, 2)), rng.normal(size=(2000, 2)) + centre, rng.normal(size=(200, 2))
    ratio = multivariate_normal(centre).pdf(held_out) / multivariate_normal(np.zeros(2)).pdf(held_out)
    np.testing.assert_allclose(density_ratio(train, held_out, target), ratio, rtol=0.25)


def test_constant_weights_leave_the_plain_mean():
    train = np.zeros((6, 3))
    losses = np.array([1.0, 2.0, 6.0])
    assert deep_embedded_validation(train, np.zeros((3, 3)), train, losses) == pytest.approx(3.0)


def test_far_domains_leave_few_effective_cases_and_finite_numbers():
    rng = np.random.default_rng(0)
    train, held_out, target = rng.normal(size=(100, 300)), rng.normal(size=(50, 300)), rng.normal(size=(100, 300)) + 30
    weights = density_ratio(train, held_out, target)
    assert np.isfinite(weights).all() and np.isfinite(deep_embedded_validation(train, held_out, target, np.ones(50)))
    assert weights.mean() < 0.01
    assert effective_sample_size(np.ones(50)) == pytest.approx(50)
    assert effective_sample_size(np.array([1.0, 0, 0])) == pytest.approx(1)


def test_scores_do_not_depend_on_the_order_of_cases_or_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(25, 4))
    moved = logits[rng.permutation(25)][:, rng.permutation(4)]
    for score in (information_maximisation, soft_neighbourhood_density):
        assert score(moved) == pytest.approx(score(logits))
