"""List the alignment losses by their names in params.yaml, and set one up for a training."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.alignment.coral import Coral
from pipeline.learning.training.alignment.dann import Dann
from pipeline.learning.training.alignment.loss_term import Alignment, Target
from pipeline.learning.training.alignment.mcc import Mcc
from pipeline.learning.training.alignment.mmd import Mmd
from pipeline.learning.training.recipe import Recipe

# From the network, the number of sites and the number of training steps to the loss.
ALIGNMENT_LOSSES: dict[str, Callable[[Classifier, int, int], nn.Module]] = {
    "coral": lambda network, sites, steps: Coral(),
    "mmd": lambda network, sites, steps: Mmd(),
    "mcc": lambda network, sites, steps: Mcc(),
    "dann": lambda network, sites, steps: Dann(network.encoder.width, sites, steps),
}


def build_alignment(
    method: str,
    network: Classifier,
    *,
    weight: float,
    target: Target,
    domains: Tensor,
    recipe: Recipe,
    seed: int,
) -> Alignment:
    """Set up an alignment loss for a training by `recipe`; `domains` (n,) int64 are the sites of the training cases."""
    sites = int(max(domains.max(), target.domains.max())) + 1
    steps = recipe.epochs * math.ceil(len(domains) / recipe.batch_size)
    loss = ALIGNMENT_LOSSES[method](network, sites, steps).to(network.device)
    return Alignment(
        loss=loss,
        weight=weight,
        target=target,
        domains=domains,
        batch_size=recipe.batch_size,
        draws=torch.Generator().manual_seed(seed),
    )
