"""Choosing a method without labels of the target: a search from cheap to dear, each candidate evaluated by probes.

A candidate is kept where the labelled source does not suffer and a score that needs no label of the target says that
the target gains, both by more than chance. Nothing here has seen a label of the target; what that costs is the regret,
which needs them and is worked out afterwards.
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
    """One candidate as the record keeps it; losses in nats, differences to the best candidate below it."""

    method: str
    strength: float
    source_loss: float
    difference: float
    standard_error: float
    information_maximisation: float
    soft_neighbourhood_density: float
    deep_embedded_validation: float
    kept: bool
    why: str


def search(
    candidates: Sequence[tuple[str, float]],
    measure: Callable[[str, float], Measured],
    source: Source,
    tell: Callable[[Step], None] = lambda step: None,
) -> tuple[list[Step], dict[str, Measured]]:
    """Measure the candidates in their order and say which are kept; the last one kept is the choice.

    Parameters
    ----------
    candidates : sequence of (method, strength)
        The first one, no adaptation, is where the search begins.
    measure : callable
        Called with each candidate; a ValueError leaves the candidate out and says why.

    Returns
    -------
    steps : list of Step
    measured : dict of str to Measured
        Of each method that could be measured.
    """
    steps: list[Step] = []
    measured: dict[str, Measured] = {}
    best = candidates[0][0]
    for method, strength in candidates:
        try:
            measured[method] = measure(method, strength)
        except ValueError as error:
            steps.append(_left_out(method, strength, str(error)))
        else:
            others = [measured[best]] if method == best else list(measured.values())[:-1]
            steps.append(_step(method, strength, measured[method], measured[best], others, source))
            best = method if steps[-1].kept else best
        tell(steps[-1])
    return steps, measured


def _left_out(method: str, strength: float, why: str) -> Step:
    none = float("nan")
    return Step(method, strength, none, none, none, none, none, none, kept=False, why=f"left out: {why}")


def _step(
    method: str, strength: float, found: Measured, best: Measured, others: Sequence[Measured], source: Source
) -> Step:
    """Evaluate a candidate: the source against the best one, the target against every one below."""
    losses, best_losses = (log_losses(one.logits, source.labels) for one in (found, best))
    difference, error = paired(losses - best_losses, source.patients)
    if found is best:
        kept, why = True, "the start"
    elif not len(found.target):
        kept = difference < -error
        why = f"no target images; the source's loss {'falls' if kept else 'does not fall'} by more than its error"
    elif difference > error:
        kept, why = False, "the labelled source suffers"
    else:
        kept = all(information_gain(found.target, other.target, source.seed) > 0 for other in others)
        why = f"the target's predictions {'are' if kept else 'are not'} more informative, by more than chance"
    has_target = len(found.target) > 0
    return Step(
        method,
        strength,
        float(losses.mean()),
        difference,
        error,
        information_maximisation(found.target) if has_target else float("nan"),
        soft_neighbourhood_density(found.target) if len(found.target) > 2 else float("nan"),
        found.risk,
        kept,
        why,
    )


def information_gain(logits: Floats, others: Floats, seed: int) -> float:
    """Gain in `information_maximisation` over other predictions of the same cases, less its standard error.

    The error is that of a bootstrap over the cases, which are drawn for both alike.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.integers(len(logits), size=len(logits)) for _ in range(DRAWS)]
    gains = [information_maximisation(logits[draw]) - information_maximisation(others[draw]) for draw in rows]
    gain = information_maximisation(logits) - information_maximisation(others)
    return gain - float(np.std(gains, ddof=1))
