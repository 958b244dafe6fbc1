"""What is asked of a network: one class of several, a grade, or any number of findings; loss, weights and prevalence.

Targets (n, C) are 1 for what is there, 0 for what is not, NaN for what is not known; of classes and grades a row is
one-hot, or a mixture of such rows. Logits (n, C) become probabilities by a softmax, of findings by a sigmoid each.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

Name = Literal["multiclass", "ordinal", "multilabel"]
Balance = Literal["balanced", "sampling", "none"]


class Task(Protocol):
    """What training must know of a task."""

    def weights(self, targets: Tensor, balance: Balance) -> Tensor:
        """Weigh each kind of case, so that a rare one counts as much as a common one; ones if not balanced."""

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Give the weighted sum of log-losses over a batch (nats), and the sum of the weights; their ratio is it."""

    def case_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Give the log-loss of each case (n,) in nats, unweighted."""

    def smoothed(self, targets: Tensor, amount: float) -> Tensor:
        """Move a share of each target's certainty to the others."""

    def sampling(self, targets: Tensor) -> Tensor:
        """Weigh the cases (n,) so that drawing by these weights shows each kind as often as any other."""

    def prior(self, targets: Tensor, balance: Balance) -> Tensor:
        """Tell what the logits (C,) must lose to speak of the training cases' own prevalence again."""


@dataclass(frozen=True)
class Multiclass:
    """One class of several; of two of them, too. Grades are the same to the loss: their head knows the order."""

    def weights(self, targets: Tensor, balance: Balance) -> Tensor:
        """Give n / (C n_c) for class c (C,)."""
        counts = targets.sum(dim=0).float()
        return len(targets) / (len(counts) * counts.clamp(min=1)) if balance == "balanced" else torch.ones_like(counts)

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """- sum_ic w_c t_ic ln p_ic, and sum_ic w_c t_ic: `nn.CrossEntropyLoss`, for mixed targets as well."""
        weighted = targets * weights
        return -(weighted * logits.log_softmax(dim=1)).sum(), weighted.sum()

    def case_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """- sum_c t_c ln p_c."""
        return -(targets * logits.log_softmax(dim=1)).sum(dim=1)

    def smoothed(self, targets: Tensor, amount: float) -> Tensor:
        """(1 - a) t + a / C (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7)."""
        return targets * (1 - amount) + amount / targets.shape[1]

    def sampling(self, targets: Tensor) -> Tensor:
        """1 / n_c of each case's class."""
        return (targets / targets.sum(dim=0).clamp(min=1)).sum(dim=1)

    def prior(self, targets: Tensor, balance: Balance) -> Tensor:
        """Give ln w_c: training at weight w_c is training at a prior of w_c p(c) (Saerens et al. 2002, equation 4)."""
        return self.weights(targets, "none" if balance == "none" else "balanced").log()


@dataclass(frozen=True)
class Multilabel:
    """Any number of findings, each there, not there, or not known; what is not known weighs nothing."""

    def weights(self, targets: Tensor, balance: Balance) -> Tensor:
        """Give n / (2 n_absent) and n / (2 n_present) of each finding (2, C), over the cases where it is known."""
        if balance != "balanced":
            return torch.ones(2, targets.shape[1], device=targets.device)
        counts = torch.stack([(targets == 0).sum(dim=0), (targets == 1).sum(dim=0)]).float()
        return counts.sum(dim=0) / (2 * counts.clamp(min=1))

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Binary log-losses of all that is known."""
        known = ~targets.isnan()
        there = targets.nan_to_num()
        weighted = (weights[0] * (1 - there) + weights[1] * there) * known
        return (weighted * binary_cross_entropy_with_logits(logits, there, reduction="none")).sum(), weighted.sum()

    def case_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the findings that are known of the case; 0 where none is."""
        known, there = ~targets.isnan(), targets.nan_to_num()
        losses = binary_cross_entropy_with_logits(logits, there, reduction="none") * known
        return losses.sum(dim=1) / known.sum(dim=1).clamp(min=1)

    def smoothed(self, targets: Tensor, amount: float) -> Tensor:
        """(1 - a) t + a / 2."""
        return targets * (1 - amount) + amount / 2

    def sampling(self, targets: Tensor) -> Tensor:
        """Refuse: no drawing of whole cases evens out several findings."""
        raise ValueError("sampling draws whole cases, which cannot even out several findings; take balanced")

    def prior(self, targets: Tensor, balance: Balance) -> Tensor:
        """Give the log odds by which the weights favour presence."""
        weights = self.weights(targets, balance)
        return weights[1].log() - weights[0].log()


def task_of(name: Name) -> Task:
    """Choose the task by its name in data/cohort/cohort.json."""
    return Multilabel() if name == "multilabel" else Multiclass()
