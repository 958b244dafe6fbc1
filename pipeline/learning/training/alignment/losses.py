"""The loss terms that draw sites together, by their names in params.yaml, and how one is set up for a training."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.alignment.base import Alignment, Target
from pipeline.learning.training.alignment.coral import Coral
from pipeline.learning.training.alignment.dann import Dann
from pipeline.learning.training.alignment.mcc import Mcc
from pipeline.learning.training.alignment.mmd import Mmd
from pipeline.learning.training.recipe import Recipe

TERMS: dict[str, Callable[[Classifier, int, int], nn.Module]] = {  # of the network, its sites and the training steps
    "coral": lambda network, sites, steps: Coral(),
    "mmd": lambda network, sites, steps: Mmd(),
    "mcc": lambda network, sites, steps: Mcc(),
    "dann": lambda network, sites, steps: Dann(network.encoder.width, sites, steps),
}


def alignment(
    method: str,
    network: Classifier,
    weight: float,
    target: Target,
    domains: Tensor,
    recipe: Recipe,
    seed: int,
) -> Alignment:
    """Set a term up for a training of this recipe; `domains` (n,) int64 are the sites of the training cases."""
    sites = int(max(domains.max(), target.domains.max())) + 1
    steps = recipe.epochs * math.ceil(len(domains) / recipe.batch_size)
    term = TERMS[method](network, sites, steps).to(network.device)
    return Alignment(term, weight, target, domains, recipe.batch_size, torch.Generator().manual_seed(seed))
