"""Simulated logits whose right calibrator is known."""

import numpy as np
from scipy.special import expit, logit, softmax

OF_TWO = ("temperature", "platt", "beta", "isotonic")


OF_THREE = ("temperature", "platt", "vector", "dirichlet")


EVERY_MAP = (
    [("two", one) for one in OF_TWO] + [("three", one) for one in OF_THREE] + [("labels", one) for one in OF_TWO]
)


def drawn(probabilities, seed=1):
    return (probabilities.cumsum(axis=1) > np.random.default_rng(seed).random((len(probabilities), 1))).argmax(axis=1)


def overconfident(n, temperature, n_classes=3, seed=0):
    logits = np.random.default_rng(seed).normal(size=(n, n_classes)) * 2
    return logits * temperature, drawn(softmax(logits, axis=1))


def overconfident_of_two(n, temperature=2.0, seed=0):
    """p ~ U(0, 1), y ~ Bernoulli(p), and the prediction's logit is T logit p."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return np.stack([np.zeros(n), temperature * logit(p)], axis=1), (rng.random(n) < p).astype(int)


def several_labels(n, temperature, unknown=0.3, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 2, (n, 3))
    labels = (rng.random(logits.shape) < expit(logits)).astype(float)
    labels[rng.random(logits.shape) < unknown] = np.nan
    return logits * temperature, labels


def cases_of(task, n=2000):
    made = {"two": lambda: overconfident(n, 2.0, 2), "three": lambda: overconfident(n, 2.0)}
    return made.get(task, lambda: several_labels(n, 2.0))()
