"""Labelled images that any recipe learns, and a small network for them."""

import dataclasses

import numpy as np
import torch

from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.cases import FrozenCases, WholeCases
from pipeline.learning.training.finetuning import Setting
from pipeline.learning.training.frozen import Case, frozen_views
from pipeline.learning.training.labelled import Labelled
from pipeline.learning.training.recipe import Recipe
from tests.conftest import PLAIN, TINY_ENCODER, classifier

RECIPE = Recipe(
    1, epochs=3, patience=3, batch_size=8, learning_rate=1e-3, rate_decay=0.5, weight_decay=0.0, **PLAIN | {"rank": 2}
)


N = 36


def images(n=N, seed=0, brightness=120.0):
    """Bright squares against dark ones."""
    draws = torch.Generator().manual_seed(seed)
    shift = brightness * (torch.arange(n) % 2).view(-1, 1, 1, 1)
    return (torch.rand(n, 3, 32, 32, generator=draws) * 100 + shift).clamp(max=255).byte()


def one_hot(n=N):
    return torch.eye(2)[torch.arange(n) % 2]


def network(encoder=TINY_ENCODER, n_classes=2):
    torch.manual_seed(1)
    return classifier(3, n_classes, encoder=encoder, pooled_stages=2).eval()


def labelled(model, channels=None, targets=None, first=None):
    channels = images() if channels is None else channels
    targets = one_hot(len(channels)) if targets is None else targets
    first = len(model.encoder.stages) - 1 if first is None else first
    todo = [Case("", {str(row): lambda row=row: channels[row][None]}) for row in range(len(channels))]
    frozen = FrozenCases(*frozen_views(model, todo, first), targets, first)

    def prepare(some):
        found = model.activations(some, last=0)
        return found.maps, found.pooled

    whole = WholeCases(channels.__getitem__, prepare, lambda some, seeds: some.float(), targets)
    rest, validation = np.arange(0, len(channels) - 8), np.arange(len(channels) - 8, len(channels))
    patients = np.arange(len(rest)).astype(str)
    return Labelled(
        frozen.some(rest), frozen.some(validation), patients, lambda: (whole.some(rest), whole.some(validation))
    )


def setting(**changes):
    task = changes.pop("task", "multiclass")
    return Setting(task, dataclasses.replace(RECIPE, **changes), make_accelerator("cpu"), seed=0)
