"""Assign patients to parts of equal share so that every label is spread evenly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Marks = NDArray[np.bool_]
Numbers = NDArray[np.int64]


def assign_evenly(patients: Sequence[str], given: Marks, parts: int, seed: int) -> Numbers:
    """Assign patients to parts of equal share so that every answer is spread evenly: iterative stratification.

    The rarest answer is assigned first, starting with the patients who have most of its cases, each to the part with
    the fewest of them, then with the fewest cases, then at random (Sechidis, Tsoumakas & Vlahavas 2011, "On the
    stratification of multi-label data", algorithm 1, with patients in place of examples; with parts of equal share,
    the part that desires most examples is the one that has fewest).

    Parameters
    ----------
    patients : sequence of str
        One per case, in any order.
    given : (n, n_answers) bool array
        One column per answer to stratify by; an unknown answer is in no column.
    parts : int
    seed : int

    Returns
    -------
    (n,) int array
        The part of each case, 0 to parts - 1. In the rarest answer no two parts differ by more cases than one patient
        has; in the others rarely, since a patient assigned for one answer contributes to all its others.
    """
    names, patient_of_case = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), given.shape[1] + 1), dtype=int)  # the last column: all cases, known or not
    np.add.at(counts, patient_of_case, np.column_stack([given, np.ones(len(given), dtype=bool)]))
    draws, part_of, held = np.random.default_rng(seed), np.full(len(names), -1), np.zeros((parts, counts.shape[1]), int)
    while (left := part_of < 0).any():
        remaining = (counts[left] > 0).sum(axis=0)
        rarest = int(np.where(remaining > 0, remaining, len(names) + 1).argmin())
        lots = draws.permutation(np.flatnonzero(left & (counts[:, rarest] > 0)))
        for patient in lots[np.argsort(-counts[lots, rarest], kind="stable")]:
            part = np.lexsort((draws.random(parts), held[:, -1], held[:, rarest]))[0]
            part_of[patient] = part
            held[part] += counts[patient]
    return np.asarray(part_of[patient_of_case])
