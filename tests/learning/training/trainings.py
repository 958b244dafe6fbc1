"""Small trainings: textures of two classes, and recipes of a second."""

import torch

from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.cases import FrozenCases
from pipeline.learning.training.loop import fit
from pipeline.learning.training.recipe import Recipe
from tests.conftest import PLAIN, classifier

RECIPE = Recipe(2, epochs=6, patience=6, batch_size=8, learning_rate=1e-2, rate_decay=0.5, weight_decay=0.0, **PLAIN)


def task(n=24, seed=0):
    """Bright squares against dark ones, seen through the frozen stages."""
    labels, channels = torch.arange(n) % 2, unfrozen(n, seed)
    torch.manual_seed(1)
    network = classifier().eval()
    with torch.no_grad():
        frozen = network.activations(channels, last=len(network.encoder.stages) - 2)
    maps, pooled = frozen.maps.half(), frozen.pooled.half()
    first = len(network.encoder.stages) - 2
    return network, FrozenCases(torch.stack([maps, maps]), torch.stack([pooled, pooled]), torch.eye(2)[labels], first)


def deep_task(n=12):
    """Bright volumes against dark ones, seen through the frozen stages of an inflated encoder."""
    labels = torch.arange(n) % 2
    channels = torch.rand(n, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 60
    torch.manual_seed(1)
    network = classifier(1, filter_depth=3).eval()
    with torch.no_grad():
        frozen = network.activations(channels + 120 * labels.view(-1, 1, 1, 1), last=len(network.encoder.stages) - 2)
    first = len(network.encoder.stages) - 2
    return network, FrozenCases(frozen.maps.half()[None], frozen.pooled.half()[None], torch.eye(2)[labels], first)


def unfrozen(n=24, seed=0):
    """The squares of `task` themselves."""
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 32, 32, generator=draws) * 60 + 120 * (torch.arange(n) % 2).view(-1, 1, 1, 1)


class Watching:
    """Cases that write down which of them are drawn with which seeds."""

    def __init__(self, cases, drawn):
        self.cases, self.seen, self.targets, self.first = cases, drawn, cases.targets, cases.first

    def drawn(self, rows, seeds):
        self.seen.append((rows.tolist(), seeds.tolist()))
        return self.cases.drawn(rows, seeds)

    def plain(self, rows):
        return self.cases.plain(rows)


def trained(recipe=RECIPE, seed=0):
    network, cases = task()
    curve = fit(network, cases, cases, recipe, accelerator=make_accelerator("cpu"), seed=seed)
    return network, curve
