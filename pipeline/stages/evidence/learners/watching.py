"""Train a network and record its losses after every epoch, for the training cases and for held-out cases."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.alignment.loss_term import Alignment
from pipeline.learning.training.cases import FrozenCases, WholeCases
from pipeline.learning.training.finetuning import Setting, predict_logits, train
from pipeline.learning.training.labelled import Labelled
from pipeline.learning.training.recipe import Epoch, Recipe
from pipeline.learning.training.strategies import Strategy

Floats = NDArray[np.float64]


@dataclass
class Watched:
    """The course of a training; epoch 0 is the linear probe that it starts from.

    Attributes
    ----------
    logits : (t, C)
        Of the evaluated cases, by the selected epoch.
    validation_loss, seconds : (E,)
        The validation log-loss of each epoch, and the time since the start without the time of the recording.
    train_losses, test_losses : (E, n) and (E, t)
        Log-loss of each case without augmentation in nats; the predictions have the prevalence of the training cases.
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
    setting: Setting,
    *,
    evaluated: FrozenCases | WholeCases,
    alignment: Callable[[Recipe], Alignment | None] | None = None,
) -> Watched:
    """Train a network in place with `finetuning.train`, and record its losses after every epoch.

    The evaluated cases influence nothing; the selected epoch is that of the lowest validation loss.

    Parameters
    ----------
    evaluated : FrozenCases or WholeCases
        Cases at the freeze boundary of the training, or images if every stage is trained.
    alignment : callable, optional
        Builds the alignment loss, as for `finetuning.train`.
    """
    learned = cases.whole()[0] if isinstance(evaluated, WholeCases) else cases.train
    prior = setting.asked.prior(cases.train.targets, setting.recipe.class_weights)
    found, clock = Watched(), _Clock()

    def losses(some: FrozenCases | WholeCases) -> Floats:
        logits = predict_logits(network, some) - prior
        return setting.asked.case_losses(logits, some.targets).double().numpy()

    def tell(epoch: Epoch) -> None:
        found.seconds.append(clock.stop())
        found.validation_loss.append(epoch.validation_loss)
        found.train_losses.append(losses(learned))
        found.test_losses.append(losses(evaluated))
        clock.go()

    train(network, strategy, cases, setting, alignment=alignment or (lambda recipe: None), tell=tell)
    found.logits = predict_logits(network, evaluated).double().numpy()
    return found


class _Clock:
    """A stopwatch that can be paused."""

    def __init__(self) -> None:
        self.total = 0.0
        self.go()

    def go(self) -> None:
        self.since = time.perf_counter()

    def stop(self) -> float:
        self.total += time.perf_counter() - self.since
        return self.total
