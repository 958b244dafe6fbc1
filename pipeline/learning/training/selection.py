"""Choosing a recipe on the training cases alone: from the cheap end upwards, as long as the next one pays.

Each recipe is evaluated by inner cross-validation: trained without a part of the patients, whom it then predictions.
What the choice cost in optimism is measured by the outer folds, which never see it: that makes the validation nested.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tried:
    """One recipe as the record keeps it; losses in nats, the difference to the best one before it.

    Attributes
    ----------
    loss : float, optional
        Mean log-loss of the training cases, each prediction by a model that saw nobody of the patient's.
    difference, standard_error : float, optional
        Paired by case, with the patient as the unit.
    passes : float
        What was spent on it, in images through the whole encoder.
    """

    strategy: str
    loss: float | None
    difference: float | None
    standard_error: float | None
    passes: float
    kept: bool
    why: str


def choose(
    names: Sequence[str],
    fewest_passes: Callable[[str], float],
    attempt: Callable[[str], tuple[Floats, float]],
    patients: NDArray[np.str_],
    passes: float,
    tell: Callable[[Tried], None] = lambda tried: None,
) -> list[Tried]:
    """Try recipes in their order; the last one kept is the choice.

    The second is kept where its loss is lower, as it costs no more than the first. Every later one must lower the
    loss by more than the standard error of that difference, and the first that does not ends the search.

    Parameters
    ----------
    names : sequence of str
        From cheap to dear; the first two cost nothing to speak of.
    fewest_passes : callable
        The least that a recipe can cost; one that does not fit into what is left is not begun.
    attempt : callable
        From a name to the log-losses (n,) of the cases, each prediction by a model that did not see its patient, and
        the passes that this took. A ValueError leaves the recipe out and says why.
    patients : (n,)
    passes : float
        What may be spent.
    """
    steps: list[Tried] = []
    best: Floats | None = None
    for number, name in enumerate(names):
        if fewest_passes(name) > passes:
            why = f"left out: {fewest_passes(name):.0f} image passes at least, and {max(passes, 0):.0f} are left"
            steps.append(Tried(name, None, None, None, 0.0, kept=False, why=why))
            tell(steps[-1])
            break
        try:
            losses, spent = attempt(name)
        except ValueError as error:
            steps.append(Tried(name, None, None, None, 0.0, kept=False, why=f"left out: {error}"))
            tell(steps[-1])
            continue
        passes -= spent
        steps.append(_evaluated(name, losses, best, patients, spent, free=number < 2))
        best = losses if steps[-1].kept else best
        tell(steps[-1])
        if number > 1 and not steps[-1].kept:
            break
    return steps


def _evaluated(
    name: str, losses: Floats, best: Floats | None, patients: NDArray[np.str_], spent: float, free: bool
) -> Tried:
    if best is None:
        return Tried(name, float(losses.mean()), None, None, spent, kept=True, why="the start")
    difference, error = paired(losses - best, patients)
    kept = difference < (0 if free else -error)
    why = "the loss falls" if difference < 0 else "the loss does not fall"
    if difference < 0 and not free:
        why += " by more than its standard error" if kept else ", but not by more than its standard error"
    return Tried(name, float(losses.mean()), difference, error, spent, kept, why)


def paired(differences: Floats, patients: NDArray[np.str_]) -> tuple[float, float]:
    """Mean of paired differences (n,) and its standard error, with patients as the unit (sandwich of cluster sums)."""
    _, number = np.unique(patients, return_inverse=True)
    mean = differences.mean()
    sums = np.bincount(number, differences - mean)
    return float(mean), float(np.sqrt(np.sum(sums**2)) / len(differences))
