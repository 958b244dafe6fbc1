"""Define the interface of self-supervised objectives, and the head that most of them put on the encoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.learning.models.encoder import Begun, Encoder

View = Tensor | Begun


class Objective(nn.Module, ABC):
    """A loss of images without labels, with its own trainable heads.

    Heads consist of layers that behave the same in training and evaluation; nothing is ever put into training mode.

    Attributes
    ----------
    needs_images : bool
        Whether views must be images; otherwise they are the output of the frozen stages, which run once for all.
    """

    needs_images = False

    @abstractmethod
    def forward(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Compute the loss of two views (B, C, H, W) of the same images, or of begun views: a scalar in float32.

        `draws`, a generator on the CPU, is the only source of randomness.
        """

    def score(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Evaluate held-out pairs: by the loss itself, unless its meaning changes during training."""
        loss: Tensor = self(encoder, first, second, draws)
        return loss

    def after_step(self, encoder: Encoder) -> None:
        """Update what follows the encoder, after each step of the optimizer."""


def mlp(widths: Sequence[int], seed: int) -> nn.Sequential:
    """Build a head: linear layers of `widths`, first to last, with batch normalisation and ReLU in between.

    Each batch is normalised by its own mean and variance, also in evaluation; there are no running statistics.
    """
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after, track_running_stats=False), nn.ReLU()]
    return nn.Sequential(*layers[:-2])
