"""Choose which weights of a training are evaluated and kept: the last, a moving average, or a soup of epochs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

Averaging = Literal["none", "ema", "soup"]
Values = dict[str, Tensor]

DECAY = 0.98  # of the moving average, per step
INGREDIENTS = 5  # number of best epochs that a soup is made from


class MovingAverage:
    """Exponential moving average of weights.

    theta' = d theta' + (1 - d) theta after each step, d = min(0.98, (1 + t) / (10 + t)) at step t.
    Polyak, Juditsky 1992; the warm-up is that of TensorFlow's `ExponentialMovingAverage`.
    """

    def __init__(self, values: Values) -> None:
        self.values = copied(values)
        self.steps = 0

    @torch.no_grad()
    def after_step(self, values: Values) -> None:
        """Update the average with the present weights."""
        decay = min(DECAY, (1 + self.steps) / (10 + self.steps))
        for name, value in values.items():
            self.values[name].lerp_(value, 1 - decay)
        self.steps += 1


def greedy_soup(candidates: Sequence[tuple[float, Values]], evaluate: Callable[[Values], float]) -> Values:
    """Average the weights of some epochs; from the best one on, add each one that does not worsen the mean.

    Wortsman et al. 2022, "Model soups", recipe 1.

    Parameters
    ----------
    candidates : sequence of (validation loss, values)
        At least one.
    evaluate : callable
        From weights to their validation loss.
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
    """Copy values."""
    return {name: value.detach().clone() for name, value in values.items()}


@torch.no_grad()
def put(values: Values, into: Values) -> None:
    """Overwrite values in place."""
    for name, value in into.items():
        value.copy_(values[name])


@contextmanager
def holding(values: Values, parameters: Values) -> Iterator[None]:
    """Give parameters other values inside the block."""
    before = copied(parameters)
    put(values, parameters)
    try:
        yield
    finally:
        put(before, parameters)
