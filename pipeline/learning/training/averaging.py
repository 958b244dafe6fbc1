"""Which weights of a training are evaluated and kept: an epoch's, their moving average, or a mean of good epochs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

Averaging = Literal["none", "ema", "soup"]
Values = dict[str, Tensor]

DECAY = 0.98  # of the moving average, a step
INGREDIENTS = 5  # epochs that a soup is tried of


class MovingAverage:
    """theta' = d theta' + (1 - d) theta after each step, d = min(0.98, (1 + t) / (10 + t)) at step t.

    Polyak, Juditsky 1992; the warm-up is that of TensorFlow's `ExponentialMovingAverage`.
    """

    def __init__(self, values: Values) -> None:
        self.values = copied(values)
        self.steps = 0

    @torch.no_grad()
    def after_step(self, values: Values) -> None:
        """Move towards the weights as they are now."""
        decay = min(DECAY, (1 + self.steps) / (10 + self.steps))
        for name, value in values.items():
            self.values[name].lerp_(value, 1 - decay)
        self.steps += 1


def greedy_soup(candidates: Sequence[tuple[float, Values]], evaluate: Callable[[Values], float]) -> Values:
    """Average the weights of some epochs: from the best one on, each stays in where the mean gets no worse by it.

    Wortsman et al. 2022, "Model soups", recipe 1.

    Parameters
    ----------
    candidates : sequence of (validation loss, values)
        At least one.
    evaluate : callable
        From values to the validation loss.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate[0])
    lowest, inside = ordered[0][0], [ordered[0][1]]
    for _, values in ordered[1:]:
        loss = evaluate(mean_of([*inside, values]))
        if loss <= lowest:
            lowest, inside = loss, [*inside, values]
    return mean_of(inside)


def mean_of(several: Sequence[Values]) -> Values:
    """Average values by name."""
    return {name: torch.stack([values[name] for values in several]).mean(dim=0) for name in several[0]}


def copied(values: Values) -> Values:
    """Copy values, so that they stay what they are."""
    return {name: value.detach().clone() for name, value in values.items()}


@torch.no_grad()
def put(values: Values, into: Values) -> None:
    """Write values over others in place."""
    for name, value in into.items():
        value.copy_(values[name])


@contextmanager
def holding(values: Values, parameters: Values) -> Iterator[None]:
    """Let parameters have other values for a while."""
    before = copied(parameters)
    put(values, parameters)
    try:
        yield
    finally:
        put(before, parameters)
