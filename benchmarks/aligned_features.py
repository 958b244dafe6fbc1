"""Ways to adapt frozen features to a new hospital without its labels, for choosing.py: they move its features.

Each takes features of the training cases (n, w) and of the new hospital's cases, and the parameters come from the half
of the hospital that is seen without labels. Whether they help is measured there.
"""

from collections.abc import Callable

import numpy as np
from label_free_scores import temperature
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.covariance import LedoitWolf

from pipeline.learning.models.probe import fit_probe
from pipeline.stages.adapt.candidates import Source, probe_logits, probe_of

Floats = NDArray[np.float64]
Features = tuple[Floats, Floats, Floats]  # of training cases, of the target, and of evaluated images
SURE = 0.9  # calibrated probability from which a predicted class counts as a label


def coral(features: Features, source: Source) -> Features:
    """Give the new hospital the mean and covariance of the training cases (Sun, Feng, Saenko 2016, algorithm 1)."""
    training, target, evaluated = features
    whitened, coloured = power(covariance(target), -0.5), power(covariance(training), 0.5)

    def moved(those: Floats) -> Floats:
        return (those - target.mean(axis=0)) @ whitened @ coloured + training.mean(axis=0)

    return training, moved(target), moved(evaluated)


def covariance(features: Floats) -> Floats:
    """Estimate a covariance (w, w) that is shrunk to a multiple of the identity (Ledoit and Wolf 2004)."""
    return np.asarray(LedoitWolf().fit(features).covariance_)


def power(symmetric: Floats, exponent: float) -> Floats:
    values, axes = np.linalg.eigh(symmetric)
    return np.asarray((axes * np.maximum(values, 1e-9) ** exponent) @ axes.T)


def by_class(features: Features, source: Source) -> Features:
    """Move the new hospital to where its predicted classes lie in the training cases.

    Its mean is compared with that of the training cases weighted to the predicted prevalence, so that another
    prevalence is not taken for another scanner; the scale within classes is matched likewise.
    """
    training, target, evaluated = features
    shares = softmax(calibrated_logits(features, source), axis=1)
    of_target, of_training = shares / shares.sum(axis=0), np.eye(source.n_classes)[source.labels]
    of_training = of_training / of_training.sum(axis=0)
    prevalence = shares.mean(axis=0)
    expected, found = of_training.T @ training, of_target.T @ target
    spread = [
        np.sqrt(prevalence @ np.maximum(weights.T @ those**2 - means**2, 0))
        for weights, those, means in ((of_training, training, expected), (of_target, target, found))
    ]
    ratio = spread[0] / np.maximum(spread[1], 0.1 * np.median(spread[1]))

    def moved(those: Floats) -> Floats:
        return (those - prevalence @ found) * ratio + prevalence @ expected

    return training, moved(target), moved(evaluated)


def calibrated_logits(features: Features, source: Source) -> Floats:
    """Predict the target (m, K) by probes of the training cases, at the temperature of their predictions."""
    training, target, _ = features
    logits, of_target = np.zeros((len(training), source.n_classes)), []
    for train, held_out in source.parts():
        probe = probe_of(training[train], source.some(train))
        logits[held_out] = probe_logits(probe, training[held_out])
        of_target.append(probe_logits(probe, target))
    return np.asarray(np.mean(of_target, axis=0) / temperature(logits, source.labels))


def self_trained(features: Features, source: Source, train: NDArray[np.int64], sure: Floats) -> Floats:
    """Predict the evaluated cases (j, K) by a probe that also learned the target cases of which it is sure.

    Parameters
    ----------
    train : (t,) int64
        The rows of the training cases.
    sure : (m, K)
        Calibrated logits of the target.
    """
    training, target, evaluated = features
    shares = softmax(sure, axis=1)
    kept = shares.max(axis=1) >= SURE
    targets = np.eye(source.n_classes)
    joint = np.concatenate([targets[source.labels[train]], targets[shares[kept].argmax(axis=1)]])
    patients = np.concatenate([source.patients[train], [f"new {number}" for number in range(kept.sum())]])
    probe = fit_probe(
        np.concatenate([training[train], target[kept]]), joint, patients, balanced=source.balanced, seed=source.seed
    )
    return probe_logits(probe, evaluated)


ALIGNMENTS: dict[str, Callable[[Features, Source], Features]] = {
    "coral of features": coral,
    "by predicted class": by_class,
}
