import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from pipeline.learning.models import probe as probes
from pipeline.learning.models.probe import out_of_fold_logits


def fit_probe(features, labels, patients, n_classes, balanced, seed):
    return probes.fit_probe(features, np.eye(n_classes)[labels], patients, balanced=balanced, seed=seed)


def blobs(n, width, n_classes, distance, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    return rng.normal(size=(n, width)) + distance * np.eye(n_classes, width)[labels], labels


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_probe_is_scikit_learns_logistic_regression(n_classes):
    features, labels = blobs(120, 6, n_classes, 2.0)
    features = features * 7 + 3
    probe = fit_probe(features, labels, np.arange(120).astype(str), n_classes, balanced=False, seed=0)
    scaled = StandardScaler().fit_transform(features) / np.hypot(1, 0.1)  # all spreads are about equal here
    oracle = LogisticRegression(C=probe.c, max_iter=5000).fit(scaled, labels).predict_proba(scaled)
    logits = (features - probe.mean) / probe.scale @ probe.weight.T + probe.bias
    ours = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(ours / ours.sum(axis=1, keepdims=True), oracle, atol=1e-3)


def test_few_cases_of_many_features_get_the_weights_of_the_full_fit():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=40)
    features = rng.normal(size=(40, 300)) + 0.5 * labels[:, None]
    probe = probes.fit_probe(features, np.eye(2)[labels], np.arange(40).astype(str), balanced=True, seed=0)
    model = LogisticRegression(C=probe.c, class_weight="balanced", max_iter=10_000, tol=1e-10)
    model.fit((features - probe.mean) / probe.scale, labels)
    assert np.allclose(2 * probe.weight[1], model.coef_[0], atol=5e-3 * np.abs(model.coef_).max())
    assert np.linalg.matrix_rank(probe.weight) == 1 and probe.weight.shape == (2, 300)


def test_a_feature_that_hardly_varied_does_not_decide_at_another_site():
    features, labels = blobs(60, 20, 2, 3.0)
    features[:, 7] = 0.5 + 1e-5 * np.random.default_rng(1).normal(size=60)
    probe = fit_probe(features, labels, np.arange(60).astype(str), 2, False, 0)
    elsewhere = features.copy()
    elsewhere[:, 7] = 1.5  # a hundred thousand of its deviations away, and one of the others'
    before, after = ((rows - probe.mean) / probe.scale @ probe.weight.T for rows in (features, elsewhere))
    assert np.abs(after - before).max() < 1


def test_a_constant_feature_is_left_out_and_nothing_is_divided_by_zero():
    features, labels = blobs(60, 3, 2, 3.0)
    features[:, 1] = 4.0
    probe = fit_probe(features, labels, np.arange(60).astype(str), 2, False, 0)
    assert np.isfinite(probe.weight).all() and np.abs(probe.weight[:, 1]).max() < 1e-6


def test_features_that_say_nothing_get_the_lowest_c():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 200)), rng.integers(0, 2, 60)
    assert fit_probe(features, labels, np.arange(60).astype(str), 2, False, 0).c == pytest.approx(1e-4)


def test_copies_of_a_patient_do_not_talk_the_probe_into_memorising():
    """With five equal rows a patient, folds by row would choose the highest C."""
    rng = np.random.default_rng(0)
    features, labels = np.repeat(rng.normal(size=(30, 100)), 5, axis=0), np.repeat(rng.integers(0, 2, 30), 5)
    probe = fit_probe(features, labels, np.repeat(np.arange(30), 5).astype(str), 2, False, 0)
    assert probe.c <= 1e-3


def test_balanced_classes_move_the_bias_towards_the_rare_class():
    features, labels = blobs(200, 5, 2, 1.0)
    keep = np.flatnonzero((labels == 0) | (np.arange(200) < 40))
    rows, patients = (features[keep], labels[keep]), keep.astype(str)
    plain, balanced = (fit_probe(*rows, patients, 2, flag, 0) for flag in (False, True))
    gap = [probe.bias[1] - probe.bias[0] for probe in (plain, balanced)]
    assert gap[1] > gap[0] + 0.5


@pytest.mark.parametrize("n_classes", [2, 4])
def test_cases_out_of_fold_are_separated_where_features_are(n_classes):
    features, labels = blobs(160, 6, n_classes, 6.0)
    logits = out_of_fold_logits(features, labels, np.arange(160).astype(str), n_classes, balanced=False, seed=0)
    assert logits.shape == (160, n_classes)
    assert np.mean(logits.argmax(axis=1) == labels) > 0.97


def test_no_case_out_of_fold_was_seen_in_another_image_of_its_patient():
    """Each image stands five times: folds by image would give an AUC of 1 on labels that mean nothing."""
    rng = np.random.default_rng(0)
    features, labels = np.repeat(rng.normal(size=(40, 60)), 5, axis=0), np.repeat(np.arange(40) % 2, 5)
    logits = out_of_fold_logits(features, labels, np.repeat(np.arange(40), 5).astype(str), 2, balanced=False, seed=0)
    assert roc_auc_score(labels, logits[:, 1] - logits[:, 0]) < 0.7
    assert log_loss(labels, softmax(logits, axis=1)) > 0.65


def test_balanced_classes_leave_the_prevalence_in_predictions():
    features, labels = blobs(300, 5, 2, 1.0)
    keep = np.flatnonzero((labels == 0) | (np.arange(300) < 60))
    logits = out_of_fold_logits(features[keep], labels[keep], keep.astype(str), 2, balanced=True, seed=0)
    assert softmax(logits, axis=1)[:, 1].mean() == pytest.approx(labels[keep].mean(), abs=0.05)


@pytest.mark.parametrize(("n_classes", "said"), [(2, "class 1 has 1 patient"), (3, "class 2 has 0 patient")])
def test_a_class_of_too_few_patients_cannot_be_cross_validated(n_classes, said):
    labels = np.array([0] * 9 + [1] * 3)
    patients = np.array([*map(str, range(9)), "x", "x", "x" if n_classes == 2 else "y"])
    with pytest.raises(ValueError, match=said):
        out_of_fold_logits(
            np.random.default_rng(0).normal(size=(12, 3)), labels, patients, n_classes, balanced=False, seed=0
        )
