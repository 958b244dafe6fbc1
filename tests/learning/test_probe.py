import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline.learning.probe import fit_probe


def blobs(n, width, n_classes, distance, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    return rng.normal(size=(n, width)) + distance * np.eye(n_classes, width)[labels], labels


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_probe_is_scikit_learns_logistic_regression_on_standardised_features(n_classes):
    features, labels = blobs(120, 6, n_classes, 2.0)
    features = features * 7 + 3
    probe = fit_probe(features, labels, np.arange(120).astype(str), n_classes, balanced=False, seed=0)
    scaled = StandardScaler().fit_transform(features)
    oracle = LogisticRegression(C=probe.penalty, max_iter=5000).fit(scaled, labels).predict_proba(scaled)
    logits = (features - probe.centre) / probe.spread @ probe.weight.T + probe.bias
    ours = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(ours / ours.sum(axis=1, keepdims=True), oracle, atol=1e-3)


def test_features_that_say_nothing_get_the_strongest_penalty():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 200)), rng.integers(0, 2, 60)
    assert fit_probe(features, labels, np.arange(60).astype(str), 2, False, 0).penalty == pytest.approx(1e-4)


def test_copies_of_a_patient_do_not_talk_the_probe_into_memorising():
    """With five equal rows a patient, folds by row would choose the weakest penalty."""
    rng = np.random.default_rng(0)
    features, labels = np.repeat(rng.normal(size=(30, 100)), 5, axis=0), np.repeat(rng.integers(0, 2, 30), 5)
    probe = fit_probe(features, labels, np.repeat(np.arange(30), 5).astype(str), 2, False, 0)
    assert probe.penalty <= 1e-3


def test_balanced_classes_move_the_bias_towards_the_rare_class():
    features, labels = blobs(200, 5, 2, 1.0)
    keep = np.flatnonzero((labels == 0) | (np.arange(200) < 40))
    rows, patients = (features[keep], labels[keep]), keep.astype(str)
    plain, balanced = (fit_probe(*rows, patients, 2, flag, 0) for flag in (False, True))
    gap = [probe.bias[1] - probe.bias[0] for probe in (plain, balanced)]
    assert gap[1] > gap[0] + 0.5
