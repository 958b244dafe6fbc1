"""Several networks that predict as one: the mean of their logits, which is calibrated after it is taken."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.models.classifier import Classifier


class Ensemble(nn.Module):
    """The models of several folds; its logits are the mean of their logits.

    Members are averaged first and calibrated as one: a mean of members that are calibrated one by one is
    underconfident (Rahaman & Thiery 2021, "Uncertainty quantification and deep ensembles", section 4).

    Parameters
    ----------
    members : sequence of mapping
        Arguments of `Classifier`, one mapping per member; all members have the same classes and channels.

    Raises
    ------
    ValueError
        If there is no member, or members differ in their number of classes.
    """

    def __init__(self, members: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        if len({one["head"]["n_classes"] for one in members}) != 1:
            raise ValueError("an ensemble needs members, all of the same classes")
        self.members = nn.ModuleList(Classifier(**one) for one in members)

    def forward(self, channels: Tensor, site: str | None = None) -> Tensor:
        """Compute logits (B, n_classes) float32 of channels (B, P, H, W) with grey values from 0 to 255.

        The mean is taken in float64 and then rounded, so that the order of the members changes no bit. A member that
        does not know the site takes its values for unknown sites.
        """
        return mean_of([member(channels, site) for member in self.members])


def mean_of(logits: Sequence[Tensor]) -> Tensor:
    """Average the logits (B, n_classes) of members; the mean of one member is that member's logits."""
    return torch.stack([one.double() for one in logits]).mean(dim=0).float()


def members_of(network: nn.Module) -> list[Classifier]:
    """List the classifiers that a network is made of: itself, or its members."""
    found: list[Any] = list(network.members) if isinstance(network, Ensemble) else [network]
    return found


def network_from(arguments: Mapping[str, Any]) -> Classifier | Ensemble:
    """Build the network of a release with random weights: an `Ensemble` if `members` are given, else a `Classifier`."""
    return Ensemble(**arguments) if "members" in arguments else Classifier(**arguments)
