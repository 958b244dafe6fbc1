"""Draw nested subsets of the training patients, for training with fewer labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.learning.models.probe import strata

LEAST = 2  # patients of each kind: one to train on, one to select C
Ints = NDArray[np.int64]


def nested(
    targets: NDArray[np.floating], patients: NDArray[np.str_], fractions: Sequence[float], seed: int
) -> dict[float, Ints]:
    """Draw nested fractions of the patients, each with the class distribution of all patients.

    The patients are shuffled once; a fraction f takes the first round(f n) of the n patients of each class, so that a
    smaller fraction is part of every larger one. A patient with several classes or labels counts for the rarest. If a
    kind (a class; a label present or absent) is left with fewer than two patients, its first ones are added, so a small
    fraction may hold more patients than it says. No subset depends on the other requested fractions.

    Parameters
    ----------
    targets : (n, n_classes)
        As described in `tasks`.
    patients : (n,)
        All rows of a patient stay together.
    fractions : sequence of float
        In (0, 1].
    seed : int
        Of the draw, at least 0.

    Returns
    -------
    dict of float to (m,) int64
        Rows of each fraction, ascending.

    Raises
    ------
    ValueError
        If a fraction is not in (0, 1].
    """
    wrong = [fraction for fraction in fractions if not 0 < fraction <= 1]
    if wrong:
        raise ValueError(f"the fraction {wrong[0]} of the training patients is not above 0 and at most 1")
    _, patient_of = np.unique(patients, return_inverse=True)
    kinds = _kinds_of(targets, patient_of)
    order = np.random.default_rng(seed).permutation(len(kinds))
    quantile = _quantile_in_class(strata(kinds[:, : targets.shape[1]], "multilabel"), order)
    needed = _first_of_each_kind(kinds, order)
    return {fraction: np.flatnonzero(((quantile <= fraction) | needed)[patient_of]) for fraction in fractions}


def _kinds_of(targets: NDArray[np.floating], patient_of: Ints) -> NDArray[np.float64]:
    """Mark the classes that are present in a case of each patient, then those known to be absent: (patients, 2 C)."""
    kinds = np.zeros((patient_of.max(initial=-1) + 1, 2 * targets.shape[1]))
    np.maximum.at(kinds, patient_of, np.hstack([targets == 1, targets == 0]).astype(float))
    return kinds


def _quantile_in_class(classes: Ints, order: Ints) -> NDArray[np.float64]:
    """Give each patient its quantile within its class, in this order.

    The j-th of n patients, j from 0, is at (j + 1/2) / n, so that round(f n) patients are at or below a fraction f.
    """
    quantile = np.empty(len(classes))
    for number in np.unique(classes):
        own = order[classes[order] == number]
        quantile[own] = (np.arange(len(own)) + 0.5) / len(own)
    return quantile


def _first_of_each_kind(kinds: NDArray[np.float64], order: Ints) -> NDArray[np.bool_]:
    """Mark the first patients, in this order, that give every kind `LEAST` patients, if it has as many."""
    chosen, counts = np.zeros(len(kinds), dtype=bool), np.zeros(kinds.shape[1])
    for patient in order:
        if (kinds[patient] * (counts < LEAST)).any():
            chosen[patient] = True
            counts += kinds[patient]
    return chosen
