"""AdaBN: replace the normalisation statistics of the source domain by those of the new domain."""

from collections.abc import Callable, Iterable, Mapping
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


def adabn_per_site(
    network: nn.Module, batches_of_site: Mapping[str, Callable[[], Iterable[Tensor]]], strength: float = 1.0
) -> dict[str, dict[str, Tensor]]:
    """Re-estimate the statistics for each site on its own, as Li et al. do for each domain; the network stays as it is.

    The statistics of a site hold for that site: load them before its images are scored, with
    `network.load_state_dict(statistics[site], strict=False)`, and those of the pooled `adabn` where the site is
    unknown. Sites of a few images get noisy statistics; a strength under 1 holds them to the source's. A classifier
    on top has to be trained on features that each came through the statistics of their own site.

    Parameters
    ----------
    network : nn.Module
        As for `adabn`.
    batches_of_site : mapping of str to callable
        What gives a site's images, as for `adabn`; called once, when it is the site's turn.
    strength : float
        s in [0, 1], as for `adabn`; at 0 every site has the statistics of the source.

    Returns
    -------
    dict of str to dict of str to Tensor
        For each site the mean (C,) and variance (C,) of every batch normalisation, named as in `state_dict`.
    """
    source = normalisation_statistics(network)
    found = {}
    for site, batches in batches_of_site.items():
        found[site] = normalisation_statistics(adabn(network, batches(), strength))
        network.load_state_dict(source, strict=False)
    return found


def normalisation_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Copy the buffers of every batch normalisation of a network, under the names of its state dict."""
    return {
        f"{name}.{buffer}" if name else buffer: value.clone()
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm)
        for buffer, value in layer.named_buffers()
    }


def _statistics(layer: _BatchNorm) -> list[Tensor]:
    return [value for value in (layer.running_mean, layer.running_var) if value is not None]
