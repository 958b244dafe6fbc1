"""What a method without labels has to offer to the one loop, and the head that most of them put on the encoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.learning.models.encoder import Begun, Encoder

View = Tensor | Begun


class Objective(nn.Module, ABC):
    """What is to be minimised, with trainable heads of its own; it sees images and no label.

    Heads are made of what behaves the same in training and scoring: nothing here is ever put into training mode.

    Attributes
    ----------
    needs_images : bool
        Whether views have to come as images; else they come begun by the frozen stages, which are run once for all.
    """

    needs_images = False

    @abstractmethod
    def forward(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Compare two views (B, C, H, W) of the same images, or begun ones; return a scalar in float32.

        `draws`, on the processor, is the only source of chance.
        """

    def score(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Evaluate held-out pairs: by the objective itself, unless that changes its meaning in training."""
        loss: Tensor = self(encoder, first, second, draws)
        return loss

    def after_step(self, encoder: Encoder) -> None:
        """Follow the encoder after each step of the optimizer, where an objective has something that follows it."""


def mlp(widths: Sequence[int], seed: int) -> nn.Sequential:
    """Make a head: linear layers (of `widths`, first to last), batch normalisation and ReLU between them.

    Each batch is normalised by its own mean and variance, in scoring, too; there are no running ones.
    """
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after, track_running_stats=False), nn.ReLU()]
    return nn.Sequential(*layers[:-2])
