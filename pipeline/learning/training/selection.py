"""Choose a recipe on the training cases alone: from cheap to expensive, as long as the next one is better.

Each recipe is evaluated by inner cross-validation: it is trained without a part of the patients and then predicts
them. The outer folds take no part in the choice, so that they measure its optimism (nested cross-validation).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tried:
    """The result of one recipe; losses are in nats, differences are to the best recipe before it.

    Attributes
    ----------
    loss : float, optional
        Mean log-loss of the training cases, each predicted by a model that saw no case of the patient.
    difference, standard_error : float, optional
        Of the loss, paired by case; the standard error takes the patient as the unit.
    passes : float
        Cost, in passes of an image through the whole encoder.
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
    *,
    patients: NDArray[np.str_],
    passes: float,
    tell: Callable[[Tried], None] = lambda tried: None,
) -> list[Tried]:
    """Try recipes in their order; the last one that is kept is the choice.

    The second recipe is kept if its loss is lower, because it costs no more than the first. Every later one must lower
    the loss by more than the standard error of the difference.

    Parameters
    ----------
    names : sequence of str
        From cheap to expensive; the cost of the first two is negligible.
    fewest_passes : callable
        From a name to the minimum cost of the recipe; a recipe that exceeds the remaining passes is not started.
    attempt : callable
        From a name to the log-losses (n,) of the cases, each predicted by a model that did not see its patient, and
        the passes that this took. A ValueError skips the recipe and gives the reason.
    patients : (n,)
    passes : float
        Budget.
    """
    steps: list[Tried] = []
    best: Floats | None = None
    for number, name in enumerate(names):
        if fewest_passes(name) > passes:
            left = f"{passes:,.0f} passes of the budget are left" if passes >= 1 else "the budget is used up"
            why = f"skipped: needs at least {fewest_passes(name):,.0f} image passes, {left}"
            steps.append(_skipped(name, why))
            tell(steps[-1])
            continue
        try:
            losses, spent = attempt(name)
        except ValueError as error:
            steps.append(_skipped(name, f"skipped: {error}"))
            tell(steps[-1])
            continue
        passes -= spent
        steps.append(_compared(name, losses, best, patients, spent=spent, free=number < 2))
        best = losses if steps[-1].kept else best
        tell(steps[-1])
    return steps


def _skipped(name: str, why: str) -> Tried:
    return Tried(name, loss=None, difference=None, standard_error=None, passes=0.0, kept=False, why=why)


def _compared(
    name: str, losses: Floats, best: Floats | None, patients: NDArray[np.str_], *, spent: float, free: bool
) -> Tried:
    """Compare a recipe with the best one before it; `free` needs no significant gain."""
    first = Tried(
        name,
        loss=float(losses.mean()),
        difference=None,
        standard_error=None,
        passes=spent,
        kept=True,
        why="the baseline",
    )
    if best is None:
        return first
    difference, error = paired(losses - best, patients)
    kept = difference < (0 if free else -error)
    why = "the loss falls" if difference < 0 else "the loss does not fall"
    if difference < 0 and not free:
        why += " by more than its standard error" if kept else ", but not by more than its standard error"
    return replace(first, difference=difference, standard_error=error, kept=kept, why=why)


def paired(differences: Floats, patients: NDArray[np.str_]) -> tuple[float, float]:
    """Compute the mean of paired differences (n,) and its standard error by patient (sandwich of cluster sums)."""
    _, number = np.unique(patients, return_inverse=True)
    mean = differences.mean()
    sums = np.bincount(number, differences - mean)
    return float(mean), float(np.sqrt(np.sum(sums**2)) / len(differences))
