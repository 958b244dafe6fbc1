"""Values of some buffers of a network that differ between hospitals: each known site has its own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PerSite = Literal["normalisation", "features"]
FEATURES = ("feature_mean", "feature_scale")  # buffers of a classifier that standardise its features


class SiteValues(nn.Module):
    """Hold the values of some buffers for each known site, and one more set for unknown sites.

    The values are buffers themselves, so that they are saved and loaded with the network, and not trained.

    Parameters
    ----------
    sites : sequence of str
        The known sites.
    buffers : mapping of str to Tensor
        The buffers whose values differ, by name; at first every site has their present content.
    """

    def __init__(self, sites: Sequence[str], buffers: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.sites = tuple(sites)
        self.names = tuple(buffers)
        for number, value in enumerate(buffers.values()):
            rows = value.detach().expand(1 + len(self.sites), *value.shape).clone()
            self.register_buffer(f"values_{number}", rows)

    def row(self, site: str | None) -> int:
        """Find the row of a site; 0 if it is unknown."""
        return 1 + self.sites.index(site) if site in self.sites else 0

    def all_of(self, name: str) -> Tensor:
        """Return the values of one buffer, (1 + sites, ...), those of unknown sites first."""
        return self.get_buffer(f"values_{self.names.index(name)}")

    @torch.no_grad()
    def remember(self, site: str | None, values: Mapping[str, Tensor]) -> None:
        """Store the values of a site; None stands for unknown sites."""
        for name in self.names:
            self.all_of(name)[self.row(site)] = values[name]

    @contextmanager
    def of(self, site: str | None, network: nn.Module) -> Iterator[None]:
        """Give the named buffers of a network the values of a site inside the block.

        The buffers are exchanged, not overwritten, so that gradients may be taken after the block.
        """
        row, before = self.row(site), {}
        for name in self.names:
            before[name] = _exchanged(network, name, self.all_of(name)[row])
        try:
            yield
        finally:
            for name, value in before.items():
                _exchanged(network, name, value)

    @torch.no_grad()
    def write_unknown(self, network: nn.Module) -> None:
        """Write the values of unknown sites into the buffers of a network, where a saved state keeps them."""
        for name in self.names:
            network.get_buffer(name).copy_(self.all_of(name)[0])


def varying(network: nn.Module, per_site: PerSite) -> dict[str, Tensor]:
    """Choose the buffers that differ between sites.

    "normalisation" chooses the mean and variance of every batch normalisation; "features" the mean and scale by which
    a classifier standardises its features.
    """
    wanted = set(_statistics(network)) if per_site == "normalisation" else set(FEATURES)
    return {name: value for name, value in network.named_buffers() if name in wanted}


def _statistics(network: nn.Module) -> Iterator[str]:
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm):
            yield from (f"{name}.running_mean", f"{name}.running_var")


def _exchanged(network: nn.Module, name: str, value: Tensor) -> Tensor:
    """Put a tensor in the place of a buffer; return the tensor that was there."""
    owner, _, buffer = name.rpartition(".")
    module = network.get_submodule(owner)
    before = module.get_buffer(buffer)
    setattr(module, buffer, value)
    return before
