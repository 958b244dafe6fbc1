"""Several networks that predict as one: a portfolio by its mean probabilities or values, an ensemble by its logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.models.classifier import Classifier, ModelOutput


class Portfolio(nn.Module):
    """Different networks of one training, with equal weights: the mean of their probabilities.

    The log-loss of a mean of probabilities is never above the mean log-loss of the members (Jensen's inequality), so a
    portfolio needs no choice among its members. Its logits are ln of the mean of the softmax, or the log-odds of the
    mean of the sigmoid for findings, so that they become probabilities and are calibrated as those of one network.

    Parameters
    ----------
    portfolio : sequence of mapping
        Arguments of `Classifier`, one mapping per member.
    findings : bool
        Whether the logits are of independent findings.
    values : bool
        Whether the outputs are numbers (regression, log hazards), whose mean is taken as it is.

    Raises
    ------
    ValueError
        If there is no member, or members differ in their number of classes.
    """

    def __init__(self, portfolio: Sequence[Mapping[str, Any]], findings: bool = False, values: bool = False) -> None:
        super().__init__()
        self.findings, self.values = findings, values
        self.members = _of_the_same_classes([Classifier(**one) for one in portfolio])
        self.n_classes: int = int(portfolio[0]["head"]["n_classes"])

    def forward(self, channels: Tensor, site: str | None = None) -> Tensor:
        """Compute logits (B, n_classes) of channels (B, P, H, W) with grey values from 0 to 255."""
        return self.mean([member(channels, site) for member in self.members])

    def outputs(self, channels: Tensor, site: str | None = None) -> ModelOutput:
        """Compute the logits of the mean, and the features and attention of the first member."""
        return self.joint(self.of_members(channels, site))

    def of_members(self, channels: Tensor, site: str | None = None) -> list[ModelOutput]:
        """Compute the output of each member."""
        return [member.outputs(channels, site) for member in classifiers_in(self)]

    def joint(self, found: Sequence[ModelOutput]) -> ModelOutput:
        """Join the outputs of the members."""
        return ModelOutput(self.mean([one.logits for one in found]), found[0].features, found[0].attention)

    def mean(self, logits: Sequence[Tensor]) -> Tensor:
        """Average the probabilities of logits (B, n_classes), and return them as logits, in float32; or the values."""
        stacked = torch.stack([one.double() for one in logits])
        if self.values:
            return stacked.mean(dim=0).float()
        if self.findings:
            return stacked.sigmoid().mean(dim=0).logit(eps=1e-12).float()
        return (stacked.log_softmax(dim=2).logsumexp(dim=0) - torch.tensor(float(len(stacked))).log()).float()


class Ensemble(nn.Module):
    """The models of several folds; its logits are the mean of their logits.

    Members are averaged first and calibrated as one: a mean of members that are calibrated one by one is
    underconfident (Rahaman & Thiery 2021, "Uncertainty quantification and deep ensembles", section 4).

    Parameters
    ----------
    members : sequence of mapping
        Arguments of `Classifier` or `Portfolio`, one mapping per member; all have the same classes and channels.

    Raises
    ------
    ValueError
        If there is no member, or members differ in their number of classes.
    """

    def __init__(self, members: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.members = _of_the_same_classes([model_from(one) for one in members])

    def forward(self, channels: Tensor, site: str | None = None) -> Tensor:
        """Compute logits (B, n_classes) float32 of channels (B, P, H, W) with grey values from 0 to 255.

        The mean is taken in float64 and then rounded, so that the order of the members changes no bit. A member that
        does not know the site takes its values for unknown sites.
        """
        return mean_of([member(channels, site) for member in self.members])


def mean_of(logits: Sequence[Tensor]) -> Tensor:
    """Average the logits (B, n_classes) of members; the mean of one member is that member's logits."""
    return torch.stack([one.double() for one in logits]).mean(dim=0).float()


def members_of(network: nn.Module) -> list[Classifier | Portfolio]:
    """List the models of folds that a network is made of: itself, or the members of an ensemble."""
    found: list[Any] = list(network.members) if isinstance(network, Ensemble) else [network]
    return found


def classifiers_in(network: nn.Module) -> list[Classifier]:
    """List every classifier of a network, of whatever form."""
    return [module for module in network.modules() if isinstance(module, Classifier)]


def model_from(arguments: Mapping[str, Any]) -> Classifier | Portfolio:
    """Build the model of a fold with random weights: a `Portfolio` if it has members, else a `Classifier`."""
    return Portfolio(**arguments) if "portfolio" in arguments else Classifier(**arguments)


def network_from(arguments: Mapping[str, Any]) -> Classifier | Portfolio | Ensemble:
    """Build the network of a release with random weights: an `Ensemble` if `members` are given, else one model."""
    return Ensemble(**arguments) if "members" in arguments else model_from(arguments)


def state_of_members(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join the state dicts of members into that of their ensemble, `members.<k>.<name>`."""
    return {f"members.{number}.{name}": value for number, one in enumerate(states) for name, value in one.items()}


def _of_the_same_classes(networks: Sequence[Classifier | Portfolio]) -> nn.ModuleList:
    if len({one.n_classes for one in networks}) != 1:
        raise ValueError("an ensemble needs members, all of the same classes")
    return nn.ModuleList(networks)
