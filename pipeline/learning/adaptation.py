"""AdaBN: the normalisation statistics of the new domain in place of the old one's."""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def adabn(network: Network, batches: Iterable[Tensor], strength: float = 1.0) -> Network:
    """Re-estimate the mean and variance of every batch normalisation on unlabelled images, in place.

    For each layer, mu = (1 - s) mu_source + s mu_target and the same for the variance, where the target's are the
    averages over the batches, taken once through the network with batch statistics (Li, Wang, Shi, Liu, Hou 2016,
    "Revisiting batch normalization for practical domain adaptation", section 3.2; s = 1 there).

    Parameters
    ----------
    network : nn.Module
        Called on each batch. Without batch normalisation it stays as it is.
    batches : iterable of Tensor
        Images as the network takes them; about equal in size.
    strength : float
        s in [0, 1]; 0 leaves the network untouched.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if strength == 0 or not layers:
        return network
    source = [([value.clone() for value in _statistics(layer)], layer.momentum) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over the batches
        layer.train()
    for batch in batches:
        network(batch)
    for layer, (statistics, momentum) in zip(layers, source, strict=True):
        for new, old in zip(_statistics(layer), statistics, strict=True):
            new.lerp_(old, 1 - strength)
        layer.momentum = momentum
        layer.eval()
    return network


def _statistics(layer: _BatchNorm) -> list[Tensor]:
    return [value for value in (layer.running_mean, layer.running_var) if value is not None]
