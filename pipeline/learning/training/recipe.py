"""Hyperparameters of a training, and its training curve."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.tasks import Balance
from pipeline.learning.training.averaging import Averaging
from pipeline.learning.training.mixing import Mixing


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training; params.yaml explains the fields under `finetune`.

    Attributes
    ----------
    batch_statistics : bool
        Whether normalisation layers learn their statistics from the batches, as training from random weights requires.
    warm_up : float
        Share of the steps, from 0 to 1, over which the learning rates rise linearly before the cosine.
    clip : float, optional
        Largest norm of the gradient.
    sides : tuple of int
        Rows and columns of the images in successive parts of equal length of the training (progressive resizing); the
        images as they are if empty.
    statistics_of_views : bool
        Whether the network that trained every stage ends with the normalisation statistics of views as of other
        scanners instead of those of the images as they are.
    """

    trainable_stages: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    rate_decay: float
    weight_decay: float
    class_weights: Balance
    label_smoothing: float
    mix: Mixing
    mix_alpha: float
    average: Averaging
    rank: int
    gradual: bool = False
    batch_statistics: bool = False
    warm_up: float = 0.0
    clip: float | None = None
    sides: tuple[int, ...] = ()
    statistics_of_views: bool = False

    def side(self, epoch: int) -> int | None:
        """Return the rows and columns of the images in an epoch, the first of which is 1; None: as they are."""
        return self.sides[(epoch - 1) * len(self.sides) // self.epochs] if self.sides else None

    def wait(self, depth: int) -> int:
        """Count the epochs before a stage is unfrozen (depth 1 is the last stage), spread over half of all epochs."""
        above = max(depth - 1, 0) if self.gradual else 0
        return self.epochs * above // (2 * max(self.trainable_stages - 1, 1))

    def share_of(self, depth: int, steps: int) -> Callable[[int], float]:
        """Return the learning-rate factor of a stage as a function of the step, with `steps` steps per epoch.

        The factor follows half a cosine, after the warm-up; it is 0 before the stage is unfrozen (Howard, Ruder 2018,
        section 3.3).
        """
        begin, end = self.wait(depth) * steps, max(self.epochs * steps, 1)
        risen = round(self.warm_up * end)

        def share(step: int) -> float:
            if step < begin:
                return 0.0
            if step < risen:
                return (step + 1) / (risen + 1)
            return 0.5 * (1 + math.cos(math.pi * min(step - risen, end - risen) / max(end - risen, 1)))

        return share


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve; epoch 0 is the probe.

    Attributes
    ----------
    train_loss, validation_loss : float
        Class-weighted log-losses in nats.
    information : float
        `information_maximisation` of the predictions for the unlabelled cases; 0 without alignment.
    best : bool
        Whether validation_loss - information is lower than in all epochs before.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    information: float
    learning_rate: float
    best: bool

    @property
    def criterion(self) -> float:
        """The criterion that the best epoch minimises."""
        return self.validation_loss - self.information


def first_trained_stage(network: Classifier, recipe: Recipe) -> int:
    """Find the lowest stage that is trained."""
    return max(len(network.encoder.stages) - recipe.trainable_stages, 0)


def parameter_groups(network: Classifier, recipe: Recipe) -> list[dict[str, Any]]:
    """Group the parameters: the head at the full learning rate, each stage below at `rate_decay` of the one above."""
    first = first_trained_stage(network, recipe)
    chain: list[nn.Module] = [nn.ModuleList([network.encoder.norm, network.attention, network.head])]
    chain += reversed(network.encoder.stages[first:])
    found = []
    for depth, part in enumerate(chain):
        trained = [value for value in part.parameters() if value.requires_grad]
        if trained:
            found.append({"params": trained, "lr": recipe.learning_rate * recipe.rate_decay**depth, "depth": depth})
    return found
