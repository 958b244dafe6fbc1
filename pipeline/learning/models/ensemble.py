"""Several networks that evaluate as one: the mean of their logits, which is calibrated after it is taken."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.models.classifier import Classifier


class Ensemble(nn.Module):
    """The fold models side by side; its logits are the mean of theirs.

    Members are pooled first and calibrated as one: the mean of members that are calibrated each by itself is
    underconfident (Rahaman & Thiery 2021, "Uncertainty quantification and deep ensembles", section 4).

    Parameters
    ----------
    members : sequence of mapping
        Arguments of `Classifier`, one mapping per member; the same classes and channels throughout.

    Raises
    ------
    ValueError
        If there is no member, or they tell different numbers of classes.
    """

    def __init__(self, members: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        if len({one["n_classes"] for one in members}) != 1:
            raise ValueError("an ensemble needs members, all of the same classes")
        self.members = nn.ModuleList(Classifier(**one) for one in members)

    def forward(self, channels: Tensor) -> Tensor:
        """Turn channels (B, P, H, W), grey values 0 to 255, into logits (B, n_classes) float32.

        The mean is taken in float64 and then rounded, so that the order of the members does not show.
        """
        return mean_of([member(channels) for member in self.members])

    def at(self, site: str | None) -> None:
        """Let every member take the values of a site; a member that does not know it takes those all unknown share."""
        for member in self.members:
            member.at(site)  # type: ignore[operator]  # nn.ModuleList forgets what its modules are


def mean_of(logits: Sequence[Tensor]) -> Tensor:
    """Average the logits (B, n_classes) of members; of one they stay what they are."""
    return torch.stack([one.double() for one in logits]).mean(dim=0).float()


def members_of(network: nn.Module) -> list[Classifier]:
    """List the classifiers that a network is made of: itself, or its members."""
    found: list[Any] = list(network.members) if isinstance(network, Ensemble) else [network]
    return found


def network_from(arguments: Mapping[str, Any]) -> Classifier | Ensemble:
    """Build the network of a release, with random weights: an ensemble where members are named, else one classifier."""
    return Ensemble(**arguments) if "members" in arguments else Classifier(**arguments)
