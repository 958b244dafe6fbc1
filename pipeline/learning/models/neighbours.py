"""Fit a nearest-neighbour head, with the number of neighbours chosen by cross-validation."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.learning.models.heads import NeighboursHead
from pipeline.learning.models.probe import MAX_PARTS, parts
from pipeline.learning.models.tasks import Name, task_of

COUNTS = (1, 3, 5, 10, 20, 50)


def fit_neighbours(
    head: NeighboursHead, features: Tensor, targets: Tensor, patients: NDArray[np.str_], *, task: Name, seed: int
) -> int:
    """Store the training cases in a head, and choose the number of neighbours by patient-grouped cross-validation.

    Parameters
    ----------
    features : (n, width)
        Standardised, one row per case.
    targets : (n, n_classes)
    patients : (n,)

    Returns
    -------
    int
        The number of neighbours, from `COUNTS`, with the lowest log-loss.
    """
    losses, case_losses = np.zeros(len(COUNTS)), task_of(task).case_losses
    for train, test in parts(targets.numpy(), patients, most=MAX_PARTS, seed=seed, task=task):
        candidate = NeighboursHead(features.shape[1], targets.shape[1], len(train), head.findings)
        for number, count in enumerate(COUNTS):
            candidate.remember(features[train], targets[train], count)
            losses[number] += float(case_losses(candidate(features[test]), targets[test]).sum())
    best = COUNTS[int(losses.argmin())]
    head.remember(features.to(head.bank), targets.to(head.targets), best)
    return best
