"""Select an adaptation method without labels of the target, trying candidates from cheap to expensive.

A candidate is kept if predictions of the labelled source get no worse and a label-free score of the target improves,
both by more than chance. No label of the target is used. The regret of this choice needs these labels and is computed
later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.learning.training.selection import paired
from pipeline.learning.training.validators import information_maximisation, log_losses, soft_neighbourhood_density
from pipeline.stages.adapt.candidates import Measured, Source

DRAWS = 200
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One row of the record of the search.

    Attributes
    ----------
    method, strength : str, float
    source_loss : float
        Mean log-loss of the source cases in nats; NaN, as all numbers, if the candidate could not be measured.
    difference, standard_error : float
        Of the source loss to the best earlier candidate.
    information_maximisation, soft_neighbourhood_density, deep_embedded_validation : float
        Label-free scores of the target; NaN without target cases.
    kept, why : bool, str
        Whether the candidate replaces the best one so far, and the reason.
    """

    method: str
    strength: float
    source_loss: float = float("nan")
    difference: float = float("nan")
    standard_error: float = float("nan")
    information_maximisation: float = float("nan")
    soft_neighbourhood_density: float = float("nan")
    deep_embedded_validation: float = float("nan")
    kept: bool = False
    why: str = ""


def search(
    candidates: Sequence[tuple[str, float]],
    measure: Callable[[str, float], Measured],
    source: Source,
    tell: Callable[[Step], None] = lambda step: None,
) -> tuple[list[Step], dict[str, Measured]]:
    """Measure the candidates in order and decide which are kept; the last one kept is selected.

    Parameters
    ----------
    candidates : sequence of (method, strength)
        The first one is "no adaptation", the start of the search.
    measure : callable
        measure(method, strength) predicts by a candidate; a ValueError skips the candidate and gives the reason.
    source : Source
        The labels of the source cases.
    tell : callable
        Called after each candidate.

    Returns
    -------
    steps : list of Step
    measured : dict of str to Measured
        The predictions of each method that could be measured.
    """
    steps: list[Step] = []
    measured: dict[str, Measured] = {}
    best = candidates[0][0]
    for method, strength in candidates:
        try:
            measured[method] = measure(method, strength)
        except ValueError as error:
            steps.append(Step(method, strength, why=f"skipped: {error}"))
        else:
            earlier = [found for name, found in measured.items() if name != method]
            kept, why, numbers = _compare(measured[method], measured[best], earlier, source)
            steps.append(Step(method, strength, kept=kept, why=why, **numbers))
            best = method if kept else best
        tell(steps[-1])
        if best not in measured:
            break  # without the start there is nothing to compare with
    return steps, measured


def _compare(
    found: Measured, best: Measured, earlier: Sequence[Measured], source: Source
) -> tuple[bool, str, dict[str, float]]:
    """Compare a candidate with the best one on the source and with every earlier one on the target.

    Returns
    -------
    kept, why : bool, str
    numbers : dict
        The numeric fields of a `Step`.
    """
    losses = log_losses(found.logits, source.labels)
    difference, error = paired(losses - log_losses(best.logits, source.labels), source.patients)
    if found is best:
        kept, why = True, "the baseline"
    elif not len(found.target):
        kept = difference < -error
        why = (
            f"no target images; the source loss {'falls' if kept else 'does not fall'} by more than its standard error"
        )
    elif difference > error:
        kept, why = False, "the source loss rises by more than its standard error"
    else:
        kept = all(information_gain(found.target, other.target, source.seed) > 0 for other in earlier)
        why = f"the target predictions {'are' if kept else 'are not'} more informative by more than chance"
    numbers = {
        "source_loss": float(losses.mean()),
        "difference": difference,
        "standard_error": error,
        "deep_embedded_validation": found.risk,
    }
    if len(found.target):
        numbers["information_maximisation"] = information_maximisation(found.target)
    if len(found.target) > 2:
        numbers["soft_neighbourhood_density"] = soft_neighbourhood_density(found.target)
    return kept, why, numbers


def information_gain(logits: Floats, others: Floats, seed: int) -> float:
    """Subtract from the gain in `information_maximisation` over other predictions its standard error.

    The standard error comes from a bootstrap that draws the same cases for both.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.integers(len(logits), size=len(logits)) for _ in range(DRAWS)]
    gains = [information_maximisation(logits[draw]) - information_maximisation(others[draw]) for draw in rows]
    gain = information_maximisation(logits) - information_maximisation(others)
    return gain - float(np.std(gains, ddof=1))
