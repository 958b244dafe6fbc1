import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from pipeline.learning.training.transferability import h_score, log_me


def task(n=60, width=10, distance=1.5, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    return rng.normal(size=(n, width)) + distance * np.eye(n_classes, width)[labels], labels


def evidence(features, y, alpha, beta):
    """Logarithm of p(y | F): y is Gaussian with covariance I / beta + F F' / alpha."""
    covariance = np.eye(len(y)) / beta + features @ features.T / alpha
    return multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)


def best_evidence(features, y):
    """The same, maximised by a general optimiser from several starts."""
    runs = [
        minimize(
            lambda logs: -evidence(features, y, *np.exp(logs)), start, method="Nelder-Mead", options={"xatol": 1e-6}
        )
        for start in ([0, 0], [3, 1], [-2, 2])
    ]
    return -min(run.fun for run in runs)


@pytest.mark.parametrize(("n", "width", "n_classes"), [(60, 10, 2), (45, 8, 3), (20, 40, 2)])
def test_log_me_is_the_maximum_of_the_dense_evidence(n, width, n_classes):
    features, labels = task(n, width, n_classes=n_classes)
    scores = [best_evidence(features, (labels == label).astype(float)) / n for label in range(n_classes)]
    assert log_me(features, labels) == pytest.approx(np.mean(scores), abs=1e-5)


@pytest.mark.parametrize("score", [log_me, h_score])
@pytest.mark.parametrize(("n", "width"), [(200, 20), (60, 500)])
def test_informative_features_rank_above_weak_and_weak_above_random(score, n, width):
    strong, weak, random = (score(*task(n, width, distance)) for distance in (8.0, 3.0, 0.0))
    assert strong > weak > random


@pytest.mark.parametrize("score", [log_me, h_score])
def test_names_of_classes_order_of_cases_and_rotations_mean_nothing(score):
    features, labels = task(n_classes=3)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(labels))
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    expected = score(features, labels)
    assert score(features[order], labels[order]) == pytest.approx(expected)
    assert score(features, np.array([7, 2, 4])[labels]) == pytest.approx(expected)
    assert score(features @ rotation, labels) == pytest.approx(expected)
    assert score(100 * features, labels) == pytest.approx(expected, rel=1e-4)


def test_features_that_say_nothing_have_the_evidence_of_the_labels_alone():
    """Then y ~ N(0, mean(y^2)), whose log-density is -ln(2 pi e mean(y^2)) / 2 per case."""
    features, labels = np.zeros((40, 5)), np.arange(40) % 2
    assert log_me(features, labels) == pytest.approx(-np.log(2 * np.pi * np.e * 0.5) / 2)


def test_a_copy_of_every_feature_and_columns_of_zeros_change_no_evidence():
    features, labels = task()
    expected = log_me(features, labels)
    assert log_me(np.hstack([features, np.zeros((60, 7))]), labels) == pytest.approx(expected)
    assert log_me(np.hstack([features, features]), labels) == pytest.approx(expected)


def test_perfect_features_give_finite_scores():
    labels = np.arange(30) % 3
    features = np.eye(3)[labels]
    assert np.isfinite(log_me(features, labels)) and log_me(features, labels) > 2
    assert h_score(features, labels, 0.0) == pytest.approx(2)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_h_score_is_the_trace_of_the_papers_matrices(n_classes):
    features, labels = task(80, 6, n_classes=n_classes)
    means = np.array([features[labels == label].mean(axis=0) for label in labels])
    covariance, between = (np.cov(table, rowvar=False, bias=True) for table in (features, means))
    assert h_score(features, labels, 0.0) == pytest.approx(np.trace(np.linalg.inv(covariance) @ between))


@pytest.mark.parametrize("width", [6, 120])
def test_the_shrunk_h_score_is_the_trace_with_scikit_learns_ledoit_wolf(width):
    features, labels = task(80, width, n_classes=3)
    means = np.array([features[labels == label].mean(axis=0) for label in labels])
    covariance, shrinkage = ledoit_wolf(features)
    between = (1 - shrinkage) * np.cov(means, rowvar=False, bias=True)
    assert h_score(features, labels) == pytest.approx(np.trace(np.linalg.solve(covariance, between)))


def test_fewer_cases_than_features_need_the_shrinkage():
    random, labels = task(40, 100, distance=0.0)
    good, _ = task(40, 100, distance=8.0)
    assert h_score(random, labels, 0.0) == pytest.approx(1) == pytest.approx(h_score(good, labels, 0.0))
    assert h_score(good, labels) > 2 * h_score(random, labels)


def test_the_h_score_of_one_feature_is_the_explained_share_of_its_variance():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    feature = (rng.normal(size=90) + labels)[:, None]
    within = sum((feature[labels == label].var() * np.mean(labels == label)) for label in range(3))
    assert h_score(feature, labels, 0.0) == pytest.approx(1 - within / feature.var())
