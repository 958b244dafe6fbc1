"""What a training does with a network, in numbers: how many stages, how fast each, for how long; and its curve."""

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
    """How long, how fast and on what to train; the fields are explained in params.yaml under `finetune`.

    Attributes
    ----------
    batch_statistics : bool
        Whether normalisation layers learn their statistics from the batches, as from random weights they must.
    """

    trainable_stages: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    rate_decay: float
    weight_decay: float
    class_weights: Balance = "balanced"
    label_smoothing: float = 0.0
    mix: Mixing = "none"
    mix_alpha: float = 0.2
    average: Averaging = "none"
    rank: int = 0
    gradual: bool = False
    batch_statistics: bool = False

    def wait(self, depth: int) -> int:
        """Epochs before a stage is unfrozen, of depth 1 for the last: half of all epochs, one stage after the other."""
        above = max(depth - 1, 0) if self.gradual else 0
        return self.epochs * above // (2 * max(self.trainable_stages - 1, 1))

    def share_of(self, depth: int, steps: int) -> Callable[[int], float]:
        """Give the share of its full rate that a stage has at each step, of so many an epoch.

        Half a cosine; nothing before the stage is unfrozen (Howard, Ruder 2018, section 3.3).
        """
        begin, end = self.wait(depth) * steps, max(self.epochs * steps, 1)
        return lambda step: 0.5 * (1 + math.cos(math.pi * min(step, end) / end)) if step >= begin else 0.0


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve; epoch 0 is the probe.

    Attributes
    ----------
    train_loss, validation_loss : float
        Class-weighted log-losses in nats.
    information : float
        `information_maximisation` of the predictions for unlabelled cases that are to be aligned; 0 without any.
    best : bool
        Whether validation_loss - information was lower than ever before.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    information: float
    learning_rate: float
    best: bool

    @property
    def criterion(self) -> float:
        """What the best epoch has least of."""
        return self.validation_loss - self.information


def first_trained_stage(network: Classifier, recipe: Recipe) -> int:
    """Find the lowest stage that is trained."""
    return max(len(network.encoder.stages) - recipe.trainable_stages, 0)


def parameter_groups(network: Classifier, recipe: Recipe) -> list[dict[str, Any]]:
    """Give the head the full rate and each stage below it `rate_decay` of the one above."""
    first = first_trained_stage(network, recipe)
    chain: list[nn.Module] = [nn.ModuleList([network.encoder.norm, network.attention, network.head])]
    chain += reversed(network.encoder.stages[first:])
    found = []
    for depth, part in enumerate(chain):
        trained = [value for value in part.parameters() if value.requires_grad]
        if trained:
            found.append({"params": trained, "lr": recipe.learning_rate * recipe.rate_decay**depth, "depth": depth})
    return found
