import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from pipeline.learning.models.probe import fit_probe
from pipeline.stages.evidence.learners.probing import probe_predictions


def features(n=90, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, size=n, p=[0.7, *np.full(n_classes - 1, 0.3 / (n_classes - 1))])
    return rng.normal(size=(n, 5)) + labels[:, None], torch.eye(n_classes)[labels], labels


def test_predictions_are_those_of_the_probe_with_the_prevalence_put_back():
    x, targets, labels = features()
    new, _, _ = features(seed=1)
    patients = np.arange(len(x)).astype(str)
    found = probe_predictions(x, targets, patients, evaluated=new, balance="balanced", seed=0, task="multiclass")
    probe = fit_probe(x, targets.numpy(), patients, balanced=True, seed=0)
    counts = np.bincount(labels)
    expected = (new - probe.mean) / probe.scale @ probe.weight.T + probe.bias + np.log(counts / counts.sum())
    assert np.allclose(log_softmax(found, axis=1), log_softmax(expected, axis=1), atol=1e-6)


@pytest.mark.parametrize("balance", ["balanced", "sampling", "none"])
def test_mean_prediction_is_the_prevalence_for_any_class_weights(balance):
    x, targets, labels = features(n=3000)
    new, _, _ = features(n=3000, seed=1)
    found = probe_predictions(
        x, targets, np.arange(len(x)).astype(str), evaluated=new, balance=balance, seed=0, task="multiclass"
    )
    assert softmax(found, axis=1)[:, 1].mean() == pytest.approx(labels.mean(), abs=0.03)


def test_grades_and_findings_are_predicted_as_their_tasks_ask():
    x, targets, labels = features(n=300, n_classes=3)
    patients = np.arange(len(x)).astype(str)
    grades = probe_predictions(x, targets, patients, evaluated=x, balance="none", seed=0, task="ordinal")
    assert np.allclose(np.exp(grades).sum(axis=1), 1) and (grades.argmax(axis=1) == labels).mean() > 0.7
    findings = torch.stack([targets[:, 0], targets[:, 1] + targets[:, 2]], dim=1)
    logits = probe_predictions(x, findings, patients, evaluated=x, balance="none", seed=0, task="multilabel")
    assert np.allclose(logits[:, 0], -logits[:, 1], atol=1e-4)  # one finding is there where the other is not
