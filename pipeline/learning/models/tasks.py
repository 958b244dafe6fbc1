"""Tasks: one class of several, a grade, any number of findings, a number, or a time; losses, weights, prevalence.

Targets (n, C) are 1 for present, 0 for absent and NaN for unknown; rows of classes and grades are one-hot or mixtures
of one-hot rows. Logits (n, C) become probabilities by a softmax, those of findings by a sigmoid each. The target of a
regression (n, 1) is the number; it is standardised for training, and the trained network gives it in its unit. The
target of survival (n, 1) is the time of an event, or minus the time of a censored case; the output is the log hazard.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

Name = Literal["multiclass", "ordinal", "multilabel", "regression", "survival"]
Balance = Literal["balanced", "sampling", "none"]


class Task(Protocol):
    """The functions of a task that training uses.

    Attributes
    ----------
    joint : bool
        Whether the loss of a case depends on the other cases of its batch, so that cases are evaluated all at once.
    """

    joint: ClassVar[bool] = False

    def kinds(self, targets: Tensor) -> Tensor | None:
        """Give the kind of each case (n,), if every batch needs its share of each; None to shuffle freely."""
        return None

    def weights(self, targets: Tensor, balance: Balance) -> Tensor:
        """Compute class weights that make rare classes count as much as common ones; ones if not balanced."""

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the weighted sum of log-losses over a batch (nats), and the sum of the weights."""

    def case_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the unweighted log-loss of each case (n,) in nats."""

    def smoothed(self, targets: Tensor, amount: float) -> Tensor:
        """Smooth the labels by an amount in [0, 1)."""

    def sampling(self, targets: Tensor) -> Tensor:
        """Compute sampling weights (n,) under which all classes are drawn equally often."""

    def prior(self, targets: Tensor, balance: Balance) -> Tensor:
        """Compute what to subtract from the logits (C,) to restore the prevalence of the training cases."""


@dataclass(frozen=True)
class Multiclass(Task):
    """One class of two or more. Ordinal grades use the same loss; their head models the order."""

    def weights(self, targets: Tensor, balance: Balance) -> Tensor:
        """Return n / (C n_c) for class c (C,)."""
        counts = targets.sum(dim=0).float()
        return len(targets) / (len(counts) * counts.clamp(min=1)) if balance == "balanced" else torch.ones_like(counts)

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Compute - sum_ic w_c t_ic ln p_ic and sum_ic w_c t_ic: `nn.CrossEntropyLoss`, also for mixed targets."""
        weighted = targets * weights
        return -(weighted * logits.log_softmax(dim=1)).sum(), weighted.sum()

    def case_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute - sum_c t_c ln p_c."""
        return -(targets * logits.log_softmax(dim=1)).sum(dim=1)

    def smoothed(self, targets: Tensor, amount: float) -> Tensor:
        """Compute (1 - a) t + a / C (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7)."""
        return targets * (1 - amount) + amount / targets.shape[1]

    def sampling(self, targets: Tensor) -> Tensor:
        """Return 1 / n_c of each case's class."""
        return (targets / targets.sum(dim=0).clamp(min=1)).sum(dim=1)

    def prior(self, targets: Tensor, balance: Balance) -> Tensor:
        """Return ln w_c: training with weight w_c assumes a prior of w_c p(c) (Saerens et al. 2002, equation 4)."""
        return self.weights(targets, "none" if balance == "none" else "balanced").log()


@dataclass(frozen=True)
class Multilabel(Task):
    """Any number of findings, each present, absent or unknown; unknown values have no weight."""

    def weights(self, targets: Tensor, balance: Balance) -> Tensor:
        """Return n / (2 n_absent) and n / (2 n_present) of each finding (2, C), over the cases with a known value."""
        if balance != "balanced":
            return torch.ones(2, targets.shape[1], device=targets.device)
        counts = torch.stack([(1 - targets).nansum(dim=0), targets.nansum(dim=0)]).float()
        return counts.sum(dim=0) / (2 * counts.clamp(min=1))

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the binary log-losses of all known values."""
        known = ~targets.isnan()
        there = targets.nan_to_num()
        weighted = (weights[0] * (1 - there) + weights[1] * there) * known
        return (weighted * binary_cross_entropy_with_logits(logits, there, reduction="none")).sum(), weighted.sum()

    def case_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Average over the known findings of each case; 0 if none is known."""
        known, there = ~targets.isnan(), targets.nan_to_num()
        losses = binary_cross_entropy_with_logits(logits, there, reduction="none") * known
        return losses.sum(dim=1) / known.sum(dim=1).clamp(min=1)

    def smoothed(self, targets: Tensor, amount: float) -> Tensor:
        """Compute (1 - a) t + a / 2."""
        return targets * (1 - amount) + amount / 2

    def sampling(self, targets: Tensor) -> Tensor:
        """Raise ValueError: sampling whole cases cannot balance several findings."""
        raise ValueError("finetune.class_weights: sampling cannot balance several findings per case; take balanced")

    def prior(self, targets: Tensor, balance: Balance) -> Tensor:
        """Return the log-odds by which the weights favour presence."""
        weights = self.weights(targets, balance)
        return weights[1].log() - weights[0].log()


class _WithoutClasses(Task):
    """No classes to weigh, to smooth or to sample, so that those settings have no effect."""

    def weights(self, targets: Tensor, balance: Balance) -> Tensor:
        """Return one: every case counts the same."""
        return torch.ones(targets.shape[1], device=targets.device)

    def smoothed(self, targets: Tensor, amount: float) -> Tensor:
        """Return the targets: there is no probability to share."""
        return targets

    def sampling(self, targets: Tensor) -> Tensor:
        """Return ones: every case is drawn equally often."""
        return torch.ones(len(targets))

    def prior(self, targets: Tensor, balance: Balance) -> Tensor:
        """Return zero: there is no prevalence to restore."""
        return torch.zeros(targets.shape[1])


@dataclass(frozen=True)
class Regression(_WithoutClasses):
    """One number, standardised; the loss is Huber's (1964): quadratic up to one standard deviation, then linear."""

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the Huber losses, and count the cases."""
        found = huber_loss(logits, targets, reduction="none") * weights
        return found.sum(), weights.expand_as(targets).sum()

    def case_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the Huber loss of each case, without a unit."""
        return huber_loss(logits, targets, reduction="none").sum(dim=1)


@dataclass(frozen=True)
class Survival(_WithoutClasses):
    """A time until an event; the loss is the negative log partial likelihood (Cox 1972) of the cases of a batch.

    Ties are Breslow's (1974). The risk sets are those of the batch (Kvamme, Borgan, Scheel 2019, "Time-to-event
    prediction with neural networks and Cox regression", section 3), so that batches hold events and are not small.
    """

    joint: ClassVar[bool] = True

    def kinds(self, targets: Tensor) -> Tensor:
        """Tell events (1) from censored cases (0)."""
        return (targets[:, 0] > 0).long()

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the negative log partial likelihood of the cases, and count their events."""
        found = self.case_losses(logits, targets)
        return found.sum(), (targets[:, 0] > 0).to(logits.dtype).sum()

    def case_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the term of each case among these cases: ln mean_{t_j >= t_i} exp(h_j) - h_i; 0 if it is censored.

        The mean in the place of the sum changes no gradient, and makes losses of few and of many cases comparable: 0
        is the loss of a model that tells nothing.
        """
        time, event, hazard = targets[:, 0].abs(), targets[:, 0] > 0, logits[:, 0]
        at_risk = time[None, :] >= time[:, None]
        everyone = hazard[None, :].expand(len(hazard), -1).masked_fill(~at_risk, -torch.inf).logsumexp(dim=1)
        return (everyone - at_risk.sum(dim=1).to(hazard.dtype).log() - hazard) * event


def task_of(name: Name) -> Task:
    """Choose the task by its name in data/cohort/cohort.json."""
    if name in ("regression", "survival"):
        return Regression() if name == "regression" else Survival()
    return Multilabel() if name == "multilabel" else Multiclass()
