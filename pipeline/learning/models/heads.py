"""Heads: the last layer, from the features of a case to its logits."""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize, softplus

if TYPE_CHECKING:  # scikit-learn, which fits a probe, takes seconds to import
    from pipeline.learning.models.probe import Probe

Kind = Literal["linear", "ordinal", "neighbours"]


class LinearHead(nn.Linear):
    """Linear layer with one output for each class or finding."""

    @torch.no_grad()
    def take(self, probe: "Probe") -> None:
        """Copy the weights of a linear probe."""
        self.weight.copy_(torch.from_numpy(probe.weight))
        self.bias.copy_(torch.from_numpy(probe.bias))

    @torch.no_grad()
    def rescale(self, mean: float, scale: float) -> None:
        """Turn standardised outputs z into mean + scale z: the number of a regression in its unit, or a log hazard."""
        self.weight.mul_(scale)
        self.bias.mul_(scale).add_(mean)

    @torch.no_grad()
    def lower(self, amounts: Tensor) -> None:
        """Subtract amounts (C,) from the logits."""
        self.bias.sub_(amounts.to(self.bias))


class OrdinalHead(nn.Module):
    """Ordinal head: P(y <= k) = sigmoid(b_k - w'x), the proportional odds of McCullagh 1980 (equation 2.2).

    Its logits are the log-probabilities of the grades, so that a softmax returns the probabilities. The
    parametrisation keeps the thresholds in ascending order during training: b_k = b_0 + sum_{j <= k} softplus(g_j).
    """

    prior: Tensor

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, width))
        self.first = nn.Parameter(torch.zeros(1))
        self.gaps = nn.Parameter(torch.zeros(n_classes - 2))
        self.register_buffer("prior", torch.zeros(n_classes))

    @property
    def thresholds(self) -> Tensor:
        """The thresholds (C - 1,) between successive grades, on the scale of w'x."""
        return torch.cat([self.first, self.first + softplus(self.gaps).cumsum(0)])

    def forward(self, features: Tensor) -> Tensor:
        """Compute log-probabilities (B, C) from features (B, width)."""
        places = self.thresholds - features @ self.weight.T
        # ln(sigmoid(b) - sigmoid(a)) = ln sigmoid(b) + ln sigmoid(-a) + ln(1 - e^(a - b)), which never cancels.
        width = torch.log(-torch.expm1(-softplus(self.gaps)))
        between = logsigmoid(places[:, 1:]) + logsigmoid(-places[:, :-1]) + width
        logits = torch.cat([logsigmoid(places[:, :1]), between, logsigmoid(-places[:, -1:])], dim=1)
        return (logits - self.prior).log_softmax(dim=1)

    @torch.no_grad()
    def take(self, probe: "Probe") -> None:
        """Copy the weights (1, width) and thresholds (C - 1,), in `bias`, of an ordinal probe."""
        self.weight.copy_(torch.from_numpy(probe.weight))
        thresholds = torch.from_numpy(probe.bias)
        self.first.copy_(thresholds[:1])
        self.gaps.copy_(torch.log(torch.expm1(thresholds.diff().clamp(min=1e-6))))

    @torch.no_grad()
    def lower(self, amounts: Tensor) -> None:
        """Subtract amounts (C,) from the log-probabilities, which are then normalised again."""
        self.prior.add_(amounts.to(self.prior))


class NeighboursHead(nn.Module):
    """Nearest-neighbour head: the k most similar training cases vote, by cosine similarity; it has no parameters.

    p = (m sum_i s_i t_i + t_mean) / (m + 1), s = softmax_i(cos_i / 0.07) over the k nearest (Wu et al. 2018,
    "Unsupervised feature learning via non-parametric instance discrimination", section 3.4), m = 1 / sum_i s_i^2 the
    effective number of votes (Kish 1965), and t_mean, the mean of all training cases, as one more vote, so that no
    probability is 0 or 1. The features of the training cases are part of the network and are released with it.
    """

    TEMPERATURE = 0.07
    bank: Tensor
    targets: Tensor
    neighbours: Tensor

    def __init__(self, width: int, n_classes: int, n_cases: int, findings: bool) -> None:
        super().__init__()
        self.findings = findings
        self.register_buffer("bank", torch.zeros(n_cases, width))
        self.register_buffer("targets", torch.zeros(n_cases, n_classes))
        self.register_buffer("neighbours", torch.ones((), dtype=torch.long))

    def remember(self, features: Tensor, targets: Tensor, neighbours: int) -> None:
        """Store the features (n, width) and targets (n, C) of the training cases, and the number of votes."""
        self.bank.copy_(normalize(features))
        self.targets.copy_(targets)
        self.neighbours.fill_(neighbours)

    def forward(self, features: Tensor) -> Tensor:
        """Compute log-probabilities (B, C) from features (B, width); log-odds for findings."""
        count = min(int(self.neighbours), len(self.bank))
        similarity, nearest = (normalize(features) @ self.bank.T).topk(count, dim=1)
        votes = (similarity / self.TEMPERATURE).softmax(dim=1).unsqueeze(-1)
        known = ~self.targets.isnan()
        there = self.targets.nan_to_num()
        everyone = there.sum(dim=0) / known.sum(dim=0).clamp(min=1)
        heard = (votes * known[nearest]).sum(dim=1)
        worth = 1 / votes.square().sum(dim=1)
        share = (worth * (votes * there[nearest]).sum(dim=1) + everyone) / (worth * heard + 1)
        return share.logit(eps=1e-6) if self.findings else share.log()

    def lower(self, amounts: Tensor) -> None:
        """Do nothing: votes are not class-weighted, so that there is no weighting to undo."""


def build_head(
    width: int, n_classes: int, *, kind: Kind = "linear", n_cases: int = 0, findings: bool = False
) -> nn.Module:
    """Build a head from features (B, width) to logits (B, n_classes).

    Parameters
    ----------
    kind : {"linear", "ordinal", "neighbours"}
    n_cases, findings : int, bool
        Number of training cases that a head of neighbours stores, and whether the logits are of independent findings.
    """
    if kind == "linear":
        return LinearHead(width, n_classes)
    return OrdinalHead(width, n_classes) if kind == "ordinal" else NeighboursHead(width, n_classes, n_cases, findings)
