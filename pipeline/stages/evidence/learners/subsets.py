"""Fewer labels: nested subsets of the training patients."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.learning.models.probe import strata

LEAST = 2  # patients of a kind: one to learn from, one to choose C by
Ints = NDArray[np.int64]


def nested(
    targets: NDArray[np.floating], patients: NDArray[np.str_], fractions: Sequence[float], seed: int
) -> dict[float, Ints]:
    """Draw a share of the patients, classes spread as in all of them; a smaller share is part of every larger one.

    The patients are shuffled once; of each class a share f takes the first round(f n) of its n. A patient of several
    classes or findings counts for the rarest. Where that leaves a kind (a class; a finding there, or not there) fewer
    than two patients, its first ones are added, so that a small share may hold more patients than it says: count them.
    No subset depends on which other shares are asked for.

    Parameters
    ----------
    targets : (n, n_classes)
        As `tasks` describes them.
    patients : (n,)
        All rows of a patient go together.
    fractions : sequence of float
        In (0, 1]; 1 is all of them.
    seed : int
        Of the draw, at least 0; another one gives another draw.

    Returns
    -------
    dict of float to (m,) int64
        Rows of each share, ascending.

    Raises
    ------
    ValueError
        If a share is not in (0, 1].
    """
    wrong = [fraction for fraction in fractions if not 0 < fraction <= 1]
    if wrong:
        raise ValueError(f"a fraction of the training patients lies above 0 and up to 1; {wrong[0]} does not")
    _, patient_of = np.unique(patients, return_inverse=True)
    kinds = _kinds_of(targets, patient_of)
    order = np.random.default_rng(seed).permutation(len(kinds))
    standing, least = _standing(strata(kinds[:, : targets.shape[1]], "multilabel"), order), _least(kinds, order)
    return {fraction: np.flatnonzero(((standing <= fraction) | least)[patient_of]) for fraction in fractions}


def _kinds_of(targets: NDArray[np.floating], patient_of: Ints) -> NDArray[np.float64]:
    """Say which classes are there in a case of each patient, and which are known not to be: (patients, 2 C) of 0, 1."""
    kinds = np.zeros((patient_of.max(initial=-1) + 1, 2 * targets.shape[1]))
    np.maximum.at(kinds, patient_of, np.hstack([targets == 1, targets == 0]).astype(float))
    return kinds


def _standing(classes: Ints, order: Ints) -> NDArray[np.float64]:
    """Place the j-th of the n patients of a class, from 0, at (j + 1/2) / n: up to f there are round(f n)."""
    standing = np.empty(len(classes))
    for number in np.unique(classes):
        own = order[classes[order] == number]
        standing[own] = (np.arange(len(own)) + 0.5) / len(own)
    return standing


def _least(kinds: NDArray[np.float64], order: Ints) -> NDArray[np.bool_]:
    """Choose the first patients, in this order, that give every kind `LEAST` of them, as far as there are."""
    chosen, counts = np.zeros(len(kinds), dtype=bool), np.zeros(kinds.shape[1])
    for patient in order:
        if (kinds[patient] * (counts < LEAST)).any():
            chosen[patient] = True
            counts += kinds[patient]
    return chosen
