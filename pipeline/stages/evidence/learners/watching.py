"""A training that is watched: what it predictions after every epoch, for the cases it learns from and for others."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.alignment.base import Alignment
from pipeline.learning.training.cases import FrozenCases, WholeCases
from pipeline.learning.training.finetuning import Labelled, Setting, prediction, train
from pipeline.learning.training.recipe import Epoch, Recipe
from pipeline.learning.training.strategies import Strategy

Floats = NDArray[np.float64]


@dataclass
class Watched:
    """How a training went; epoch 0 is the probe it began with.

    Attributes
    ----------
    logits : (t, C)
        Of the evaluated cases, by the epoch that was kept.
    validation_loss, seconds : (E,)
        The validation log-loss of each epoch, and the time from the start, less what the watching took.
    train_losses, test_losses : (E, n) and (E, t)
        Log-loss of each case as it is, in nats; the training cases' own prevalence is in the predictions.
    """

    logits: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    validation_loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    train_losses: list[Floats] = field(default_factory=list)
    test_losses: list[Floats] = field(default_factory=list)


def watch(
    network: Classifier,
    strategy: Strategy,
    cases: Labelled,
    evaluated: FrozenCases | WholeCases,
    setting: Setting,
    alignment: Callable[[Recipe], Alignment | None] = lambda recipe: None,
) -> Watched:
    """Train a network in place as `finetuning.train` does, and look at it after every epoch.

    Nothing is chosen by the evaluated cases: the epoch that is kept is that of the lowest validation loss.

    Parameters
    ----------
    evaluated : FrozenCases or WholeCases
        At the boundary of the training; images where the stages before it are trained, too.
    """
    learned = cases.whole()[0] if isinstance(evaluated, WholeCases) else cases.train
    prior = setting.asked.prior(cases.train.targets, setting.recipe.class_weights)
    found, clock = Watched(), _Clock()

    def losses(some: FrozenCases | WholeCases) -> Floats:
        logits = prediction(network, some) - prior
        return setting.asked.case_losses(logits, some.targets).double().numpy()

    def tell(epoch: Epoch) -> None:
        found.seconds.append(clock.stop())
        found.validation_loss.append(epoch.validation_loss)
        found.train_losses.append(losses(learned))
        found.test_losses.append(losses(evaluated))
        clock.go()

    train(network, strategy, cases, setting, alignment=alignment, tell=tell)
    found.logits = prediction(network, evaluated).double().numpy()
    return found


class _Clock:
    """Seconds, less those while it was stopped."""

    def __init__(self) -> None:
        self.total = 0.0
        self.go()

    def go(self) -> None:
        self.since = time.perf_counter()

    def stop(self) -> float:
        self.total += time.perf_counter() - self.since
        return self.total
