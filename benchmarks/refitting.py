"""Simulated cohorts whose models are fitted again and again: features, a logistic probe or a network, and the truth.

Features are normal with the means of the classes on orthogonal axes; of 32 features as many as there are classes tell
something. The images of a patient share a normal effect (60 % of the variance). `AUC` is that of the best possible
model between two classes. The truth of two classes with a linear model is computed from the normal distribution of its
scores, else from 4,000 new patients.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import norm
from sklearn.neural_network import MLPClassifier

from pipeline.metrics.calibration import multiclass_slope
from pipeline.metrics.grouped_folds import assign_evenly

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Names = NDArray[np.str_]

FEATURES, FOLDS = 32, 5
SHARES = {2: (0.6, 0.4), 3: (0.5, 0.3, 0.2), 5: (0.3, 0.2, 0.2, 0.15, 0.15)}
SHARED = 0.6  # part of the variance of a feature that the images of a patient share
NEW = 4000  # patients of the truth
STEPS = 25  # of a fit
NODES = norm.ppf((np.arange(200) + 0.5) / 200)
TINY = 1e-12


@dataclass(frozen=True)
class Cell:
    """A kind of cohort: patients, images of each, classes, AUC of the best model; "probe" or "network"."""

    patients: int
    images: int
    classes: int
    auc: float
    learner: str = "probe"


@dataclass(frozen=True)
class Cohort:
    """Features (n, F + 1) of which the last is 1, labels, patients and folds (n,)."""

    features: Floats
    labels: Ints
    patients: Names
    folds: Ints


def cohort_of(cell: Cell, seed: int) -> Cohort | None:
    """Draw a cohort; None if a class has fewer patients than folds."""
    features, labels, patients = drawn(cell, cell.patients, cell.images, seed)
    if np.bincount(labels[:: cell.images], minlength=cell.classes).min() < FOLDS:
        return None
    return Cohort(features, labels, patients, assigned(labels, patients, seed))


def assigned(labels: Ints, patients: Names, seed: int) -> Ints:
    """Assign patients to folds as the stage `split` does."""
    return assign_evenly(patients.tolist(), np.eye(labels.max() + 1, dtype=bool)[labels], FOLDS, seed)


def means_of(cell: Cell) -> Floats:
    """Give the mean of each class (K, F)."""
    return np.asarray(norm.ppf(cell.auc) * np.eye(cell.classes, FEATURES))


def drawn(cell: Cell, patients: int, images: int, seed: int) -> tuple[Floats, Ints, Names]:
    """Draw features, labels and patients of images."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(cell.classes, size=patients, p=SHARES[cell.classes])
    shared = SHARED if images > 1 else 1.0
    effect = np.sqrt(shared) * rng.normal(size=(patients, 1, FEATURES))
    own = np.sqrt(1 - shared) * rng.normal(size=(patients, images, FEATURES))
    features = (means_of(cell)[labels][:, None] + effect + own).reshape(-1, FEATURES)
    names = np.repeat(np.arange(patients), images).astype(str)
    return np.column_stack([features, np.ones(len(features))]), np.repeat(labels, images), names


def fitted(features: Floats, labels: Ints, weights: Floats, penalty: float) -> Floats:
    """Fit a logistic regression under each weighting (R, n): coefficients (F + 1, R, K), by Boehning's bound (1992)."""
    n, width = features.shape
    n_classes, each = int(labels.max()) + 1, np.full(width, penalty)
    each[-1] *= 1e-3  # the intercept
    x = features.astype(np.float32)
    curvature = np.stack([0.5 * (x * row[:, None]).T @ x + np.diag(each) for row in weights.astype(np.float32)])
    inverse = np.linalg.inv(curvature).astype(np.float32)
    found = np.zeros((width, len(weights), n_classes), np.float32)
    truth, of_case = np.eye(n_classes, dtype=np.float32)[labels][:, None], weights.T[:, :, None].astype(np.float32)
    for _ in range(STEPS):
        scores = (x @ found.reshape(width, -1)).reshape(n, len(weights), n_classes)
        rest = (softmax(scores, axis=2) - truth) * of_case
        gradient = (x.T @ rest.reshape(n, -1)).reshape(found.shape) + each[:, None, None].astype(np.float32) * found
        found -= np.einsum("rfe,erk->frk", inverse, gradient)
    return found.astype(np.float64)


def predicted(features: Floats, coefficients: Floats) -> Floats:
    """Predict probabilities (R, n, K)."""
    scores = np.einsum("nf,frk->rnk", features, coefficients.astype(np.float64))
    return np.asarray(softmax(scores, axis=2))


def of_networks(cohort: Cohort, weights: Floats, asked: list[Floats]) -> list[Floats]:
    """Train a network of one layer of 16 under each weighting of 0 and 1; predict each of `asked`: (R, n, K)."""
    found: list[list[Floats]] = [[] for _ in asked]
    for number, row in enumerate(weights):
        rows = row > 0
        network = MLPClassifier(16, alpha=1.0, solver="lbfgs", max_iter=60, random_state=number)
        with warnings.catch_warnings(action="ignore"):  # it stops before it converges, on purpose
            network.fit(cohort.features[rows, :-1], cohort.labels[rows])
        for into, features in zip(found, asked, strict=True):
            into.append(network.predict_proba(features[:, :-1]))
    return [np.stack(one) for one in found]


def tempered(probabilities: Floats, power: Floats) -> Floats:
    """Raise probabilities (..., K) to a power and normalise them."""
    raised = np.clip(probabilities, TINY, 1) ** power
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def powers_of(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Fit a temperature to predictions (n, K) under each weighting (R, n), as its inverse."""
    found = [
        multiclass_slope(np.clip(probabilities[row > 0], TINY, 1), labels[row > 0], row[None, row > 0])[0]
        for row in weights
    ]
    return np.asarray(np.clip(np.nan_to_num(np.array(found), nan=1.0), 0.05, 20))


@dataclass(frozen=True)
class Validated:
    """Out-of-fold predictions (n, K), and predictions of the fold models and of the final model where truth is known.

    `points` (FOLDS + 1, m, K), with labels and weights (m,) of the points; the last row is the final model.
    """

    probabilities: Floats
    points: Floats
    labels: Ints
    weights: Floats


def cross_validated(
    cell: Cell, cohort: Cohort, penalty: float, *, calibrated: bool, columns: int = FEATURES
) -> Validated:
    """Cross-validate a learner on the first columns, with cross-fitted temperatures if asked; fit the final model."""
    used = np.r_[0:columns, FEATURES]
    features, labels, folds = cohort.features[:, used], cohort.labels, cohort.folds
    weights = np.stack([*(folds != fold for fold in range(FOLDS)), np.ones(len(labels))]).astype(np.float64)
    if cell.learner == "network":
        new, truth, _ = drawn(cell, NEW, 1, hash_of(cohort))
        inside, points = of_networks(cohort, weights, [features, new])
        masses = np.full(NEW, 1 / NEW)
    else:
        coefficients = fitted(features, labels, weights, penalty * cell.images)
        inside = predicted(features, coefficients)
        points, truth, masses = where_known(cell, cohort, coefficients, used)
    own = inside[folds, np.arange(len(labels))]
    if calibrated:
        powers = powers_of(own, labels, weights)
        own, points = tempered(own, powers[folds][:, None]), tempered(points, powers[:, None, None])
    return Validated(own, points, truth, masses)


def where_known(cell: Cell, cohort: Cohort, coefficients: Floats, used: Ints) -> tuple[Floats, Ints, Floats]:
    """Predict points (R, m, K) that stand for all new patients, with their labels and weights (m,)."""
    if cell.classes > 2:
        new, truth, _ = drawn(cell, NEW, 1, hash_of(cohort))
        return predicted(new[:, used], coefficients), truth, np.full(NEW, 1 / NEW)
    slopes = (coefficients[:-1, :, 1] - coefficients[:-1, :, 0]).astype(np.float64).T
    offsets = (coefficients[-1, :, 1] - coefficients[-1, :, 0]).astype(np.float64)
    spread, means = np.linalg.norm(slopes, axis=1), slopes @ means_of(cell)[:, used[:-1]].T + offsets[:, None]
    scores = np.concatenate([means[:, [c]] + spread[:, None] * NODES for c in (0, 1)], axis=1)
    points = softmax(np.stack([np.zeros_like(scores), scores], axis=2), axis=2)
    return points, np.repeat([0, 1], len(NODES)), np.repeat(SHARES[2], len(NODES)) / len(NODES)


def hash_of(cohort: Cohort) -> int:
    """Give a seed for new patients of a cohort."""
    return int(np.abs(cohort.features[:, 0]).sum() * 1e6) % 2**31
