"""What changes with the hospital: a few buffers of a network, of which every known site has values of its own."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PerSite = Literal["normalisation", "features"]


class SiteValues(nn.Module):
    """The values of some buffers at each site, and those for a site that nobody has seen.

    They are buffers themselves, so that they are saved and loaded with the network. Nothing is learned here.

    Parameters
    ----------
    sites : sequence of str
        The known ones.
    buffers : mapping of str to Tensor
        What the values stand for, by name; at first every site has what is in there.
    """

    def __init__(self, sites: Sequence[str], buffers: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.sites = tuple(sites)
        self.names = tuple(buffers)
        for number, value in enumerate(buffers.values()):
            rows = value.detach().expand(1 + len(self.sites), *value.shape).clone()
            self.register_buffer(f"values_{number}", rows)

    def row(self, site: str | None) -> int:
        """Find the row of a site; 0 where it is unknown."""
        return 1 + self.sites.index(site) if site in self.sites else 0

    def all_of(self, name: str) -> Tensor:
        """Give the values of one buffer, (1 + sites, ...), those of the unknown site first."""
        return self.get_buffer(f"values_{self.names.index(name)}")

    @torch.no_grad()
    def remember(self, site: str | None, values: Mapping[str, Tensor]) -> None:
        """Keep the values of a site; None is any unknown one."""
        for name in self.names:
            self.all_of(name)[self.row(site)] = values[name]

    @torch.no_grad()
    def put(self, site: str | None, buffers: Mapping[str, Tensor]) -> None:
        """Write the values of a site into a network's buffers, given by name."""
        for name in self.names:
            buffers[name].copy_(self.all_of(name)[self.row(site)])


def varying(network: nn.Module, per_site: PerSite) -> dict[str, Tensor]:
    """Choose the buffers that differ between sites.

    "normalisation" is the mean and variance of every batch normalisation; "features" is the location and spread by
    which features are standardised, the buffers `centre` and `spread` of a classifier.
    """
    wanted = set(_statistics(network)) if per_site == "normalisation" else {"centre", "spread"}
    return {name: value for name, value in network.named_buffers() if name in wanted}


def _statistics(network: nn.Module) -> Iterable[str]:
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm):
            yield from (f"{name}.running_mean", f"{name}.running_var")
