"""Conformal sets beside crepes and MAPIE."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from pipeline.metrics.conformal import conformal_thresholds, sets_of

NUMBERS = np.arange(3)


def drawn(n, seed):
    """Probabilities (n, 3) that are right, labels (n,), and patients (n,) of one case each."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), n)
    return probabilities, (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1), np.arange(n).astype(str)


class AsGiven(ClassifierMixin, BaseEstimator):
    """Return the given probabilities as its predictions."""

    def __init__(self):
        self.classes_ = NUMBERS

    def fit(self, probabilities, labels):
        return self

    def predict(self, probabilities):
        return probabilities.argmax(axis=1)

    def predict_proba(self, probabilities):
        return probabilities


def test_crepes_gives_the_same_sets():
    crepes, extras = pytest.importorskip("crepes"), pytest.importorskip("crepes.extras")
    probabilities, labels, patients = drawn(300, seed=0)
    new = drawn(100, seed=5)[0]
    one = crepes.ConformalClassifier().fit(extras.hinge(probabilities, NUMBERS, labels))
    sets = one.predict_set(extras.hinge(new), confidence=0.9, smoothing=False)
    assert (sets == sets_of(new, conformal_thresholds(probabilities, labels, patients, 0.1))).all()


def test_crepes_gives_the_same_sets_where_the_promise_is_to_each_class():
    crepes, extras = pytest.importorskip("crepes"), pytest.importorskip("crepes.extras")
    probabilities, labels, patients = drawn(300, seed=0)
    new = drawn(100, seed=5)[0]
    of_class = crepes.ConformalClassifier().fit(extras.hinge(probabilities, NUMBERS, labels), bins=labels)
    by_class = sets_of(new, conformal_thresholds(probabilities, labels, patients, 0.1, by="class"))
    for number in NUMBERS:
        column = extras.hinge(new)[:, [number]]
        sets = of_class.predict_set(column, bins=np.full(100, number), confidence=0.9, smoothing=False)
        assert (sets[:, 0] == by_class[:, number]).all()


@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_mapie_gives_the_same_sets(alpha):
    mapie = pytest.importorskip("mapie.classification")
    probabilities, labels, patients = drawn(300, seed=0)
    new = drawn(100, seed=5)[0]
    one = mapie.SplitConformalClassifier(AsGiven(), confidence_level=1 - alpha, conformity_score="lac", prefit=True)
    _, sets = one.conformalize(probabilities, labels).predict_set(new)
    assert (sets[:, :, 0] == sets_of(new, conformal_thresholds(probabilities, labels, patients, alpha))).all()
