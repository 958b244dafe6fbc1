"""Assign the patients of a large cohort to folds by a hash of their pseudonyms, so that they stay when it grows."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANY = 2000  # patients from which folds are hashed; below, folds are balanced over all patients at once
COMMON = 100  # patients of an answer per fold from which chance spreads them: a fold then has 100, give or take 10

Marks = NDArray[np.bool_]
Numbers = NDArray[np.int64]


def is_large(patients: Sequence[str]) -> bool:
    """Tell whether there are `MANY` patients or more, where patients of unequal numbers of cases count as fewer.

    Parameters
    ----------
    patients : sequence of str
        One per case. Their effective number is (sum of n)^2 / sum of n^2 with n cases each (Kish 1965, section 11.7).
    """
    _, cases = np.unique(np.asarray(patients, dtype=str), return_counts=True)
    return bool(cases.sum() ** 2 >= MANY * np.square(cases).sum())


def assign_by_hash(patients: Sequence[str], given: Marks, parts: int, seed: int) -> Numbers:
    """Assign each patient to the part that a hash of the pseudonym prefers, whichever other patients there are.

    Parts are preferred at random (rendezvous hashing, Thaler & Ravishankar 1998), so that their shares vary by chance.
    Where an answer has fewer than `COMMON` patients per part, chance would leave parts without it: its patients go to
    the part that they prefer among those with room, in the order of their hashes (consistent hashing with bounded
    loads, Mirrokni, Thorup & Zadimoghaddam 2018). A new patient then moves one or two others of that answer.

    Parameters
    ----------
    patients : sequence of str
        Pseudonyms, one per case, in any order.
    given : (n, n_answers) bool array
        One column per answer, as in `assign_evenly`.
    parts : int
    seed : int

    Returns
    -------
    (n,) int array
        The part of each case, 0 to parts - 1. Of the rarest answer that is not common, no two parts differ by more than
        one patient.
    """
    names, patient_of_case = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    gives = np.zeros((len(names), given.shape[1]), dtype=bool)
    np.logical_or.at(gives, patient_of_case, given)
    draws = np.array([_draws(f"{seed}/fold/{name}", parts + 1) for name in names])
    preferred = np.argsort(-draws[:, 1:], axis=1, kind="stable")
    part_of, patients_of = preferred[:, 0].copy(), gives.sum(axis=0)
    settled = np.zeros(len(names), dtype=bool)
    for answer in np.argsort(patients_of, kind="stable"):
        if 0 < patients_of[answer] < COMMON * parts:
            left = np.flatnonzero(gives[:, answer] & ~settled)
            left = left[np.argsort(draws[left, 0], kind="stable")]
            held = np.bincount(part_of[gives[:, answer] & settled], minlength=parts)
            part_of[left] = _with_room(preferred[left], held)
            settled[left] = True
    return np.asarray(part_of[patient_of_case])


def _with_room(preferred: Numbers, held: NDArray[np.int_]) -> list[int]:
    """Fill the parts, which hold `held` patients already, to shares that differ by one patient at most."""
    held, parts = held.copy(), []
    least, larger = divmod(len(preferred) + int(held.sum()), len(held))
    for choices in preferred:
        room = held < least + ((held > least).sum() < larger)
        parts.append(next((int(part) for part in choices if room[part]), int(held.argmin())))
        held[parts[-1]] += 1
    return parts


def _draws(name: str, count: int) -> NDArray[Any]:
    """Draw `count` numbers from [0, 2^32); of more numbers, the first ones stay the same."""
    return np.frombuffer(hashlib.shake_128(name.encode()).digest(4 * count), dtype=">u4").astype(np.int64)
