"""The one training loop: from a linear probe onwards, over frozen activations, until the inner loss stops falling."""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.learning.alignment import Alignment, look
from pipeline.learning.classifier import Classifier, Tail
from pipeline.learning.validators import information_maximisation

log = logging.getLogger(__name__)

NEW_LAYERS = 10  # how much faster a term's own layers learn, which start from nothing (as in Long et al. 2015, DAN)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train; the fields are explained in params.yaml under `finetune`."""

    trainable_stages: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    rate_decay: float
    weight_decay: float


@dataclass(frozen=True)
class Cases:
    """Labelled cases as activations at the freeze boundary.

    Attributes
    ----------
    maps : (V, n, S, C, h, w) float16
        Of an inflated encoder (V, n, 1, C, D, h, w). View 0 is the case as it is.
    pooled : (V, n, S, w) float16
        What the pooled stages before the boundary gave.
    labels : (n,) int64
    """

    maps: Tensor
    pooled: Tensor
    labels: Tensor

    def some(self, rows: Tensor | NDArray[np.int64]) -> "Cases":
        """Take some of the cases."""
        return Cases(self.maps[:, rows], self.pooled[:, rows], self.labels[rows])

    def batches(self, size: int, view: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Give one view of the cases in their order, in batches of maps and pooled features."""
        return zip(self.maps[view].split(size), self.pooled[view].split(size), strict=True)


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve; epoch 0 is the probe.

    Attributes
    ----------
    train_loss, inner_loss : float
        Class-weighted log-losses in nats.
    information : float
        `information_maximisation` of the forecasts for unlabelled cases that are to be aligned; 0 without any.
    best : bool
        Whether inner_loss - information was lower than ever before.
    """

    epoch: int
    train_loss: float
    inner_loss: float
    information: float
    learning_rate: float
    best: bool

    @property
    def criterion(self) -> float:
        """What the best epoch has least of."""
        return self.inner_loss - self.information


def make_accelerator(device: str | None) -> Accelerator:
    """Choose the device (None: CUDA where there is one) and its precision: bfloat16 on CUDA, else float32."""
    on_cuda = torch.cuda.is_available() and device != "cpu"
    torch.use_deterministic_algorithms(True, warn_only=True)
    return Accelerator(mixed_precision="bf16" if on_cuda else "no", cpu=not on_cuda)


def first_trained_stage(network: Classifier, recipe: Recipe) -> int:
    """Find the stage at the freeze boundary."""
    return max(len(network.encoder.stages) - recipe.trainable_stages, 0)


def parameter_groups(network: Classifier, recipe: Recipe) -> list[dict[str, object]]:
    """Give the head the full rate and each stage below it `rate_decay` of the one above."""
    first = first_trained_stage(network, recipe)
    chain: list[nn.Module] = [nn.ModuleList([network.encoder.norm, network.attention, network.head])]
    chain += reversed(network.encoder.stages[first:])
    return [
        {"params": list(part.parameters()), "lr": recipe.learning_rate * recipe.rate_decay**depth}
        for depth, part in enumerate(chain)
        if any(True for _ in part.parameters())
    ]


def class_weights(labels: Tensor, n_classes: int, balanced: bool) -> Tensor:
    """Weigh classes so that each counts the same in total: n / (n_classes * count); ones if not balanced."""
    if not balanced:
        return torch.ones(n_classes)
    counts = torch.bincount(labels, minlength=n_classes).float()
    return len(labels) / (n_classes * counts.clamp(min=1))


def fit(
    network: Classifier,
    train: Cases,
    inner: Cases,
    recipe: Recipe,
    weights: Tensor,
    accelerator: Accelerator,
    seed: int,
    tell: Callable[[Epoch], None] = lambda epoch: None,
    alignment: Alignment | None = None,
) -> list[Epoch]:
    """Train the last stages, the attention and the head of `network` in place, and leave the best epoch in it.

    Normalisation statistics stay as adaptation left them, so a step does not depend on the batch it is in. The best
    epoch is the one of the lowest inner log-loss; epoch 0, the network as it came, takes part. Where sites are
    aligned, that loss alone would never see what is gained at the target: there the information of the forecasts for
    it (Shi, Sha 2012; see `validators`) counts as much, in nats.

    Parameters
    ----------
    network : Classifier
        With the probe in its head.
    train, inner : Cases
        No patient in both.
    weights : (n_classes,) Tensor
        Of each class in the loss.
    seed : int
        Of the order of the cases and the choice of views.
    tell : callable
        Called after each epoch.
    alignment : Alignment, optional
        What is added to the loss of each step to draw sites together; the losses reported stay without it.

    Returns
    -------
    list of Epoch
        From epoch 0 to the last one run.
    """
    plain = Tail(network, first_trained_stage(network, recipe)).eval()
    groups = parameter_groups(network, recipe)
    groups += alignment.parameter_groups(NEW_LAYERS * recipe.learning_rate) if alignment else []
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=accelerator.device.type == "cuda")
    tail, optimizer = accelerator.prepare(plain, optimizer)
    loss_of = nn.CrossEntropyLoss(weight=weights.to(accelerator.device))
    losses_of = partial(_losses, tail, plain, loss_of, alignment)
    draws = torch.Generator().manual_seed(seed)
    steps = recipe.epochs * math.ceil(len(train.labels) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    informed = partial(_information, tail, alignment, accelerator)
    train_loss, inner_loss = (evaluate(tail, cases, loss_of, accelerator) for cases in (train, inner))
    curve = [Epoch(0, train_loss, inner_loss, informed(), 0.0, best=True)]
    tell(curve[0])
    best = copy.deepcopy(network.state_dict())
    for number in range(1, recipe.epochs + 1):
        rate = float(optimizer.param_groups[0]["lr"])
        train_loss = _one_epoch(losses_of, train, optimizer, schedule, accelerator, recipe.batch_size, draws)
        inner_loss = evaluate(tail, inner, loss_of, accelerator)
        found = Epoch(number, train_loss, inner_loss, informed(), rate, best=False)
        curve.append(replace(found, best=found.criterion < min(epoch.criterion for epoch in curve)))
        tell(curve[-1])
        if curve[-1].best:
            best = copy.deepcopy(network.state_dict())
        if number - max(epoch.epoch for epoch in curve if epoch.best) >= recipe.patience:
            break
    network.load_state_dict(best)
    return curve


def evaluate(tail: nn.Module, cases: Cases, loss_of: nn.Module, accelerator: Accelerator) -> float:
    """Compute the class-weighted log-loss of the cases as they are (view 0)."""
    logits = _logits(tail, cases.maps[0], cases.pooled[0], accelerator)
    return float(loss_of(logits, cases.labels.to(accelerator.device)))


@torch.no_grad()
def _logits(tail: nn.Module, maps: Tensor, pooled: Tensor, accelerator: Accelerator) -> Tensor:
    with accelerator.autocast():
        batches = zip(maps.split(32), pooled.split(32), strict=True)
        parts = [[part.to(accelerator.device).float() for part in batch] for batch in batches]
        return torch.cat([tail(*part).float() for part in parts])


def _information(tail: nn.Module, alignment: Alignment | None, accelerator: Accelerator) -> float:
    if alignment is None or alignment.weight == 0:
        return 0.0
    logits = _logits(tail, alignment.target.maps[0], alignment.target.pooled[0], accelerator)
    return information_maximisation(logits.double().cpu().numpy())


def _losses(
    tail: nn.Module,
    plain: Tail,
    loss_of: nn.Module,
    alignment: Alignment | None,
    batch: list[Tensor],
    labels: Tensor,
    rows: Tensor,
) -> tuple[Tensor, Tensor]:
    """Give the log-loss of a batch, and what a step descends: the same, or with the term that aligns sites."""
    if alignment is None:
        loss = loss_of(tail(*batch), labels)
        return loss, loss
    features, logits = look(plain, *batch)
    loss = loss_of(logits, labels)
    return loss, loss + alignment(plain, features, logits, rows)


def _one_epoch(
    losses_of: Callable[[list[Tensor], Tensor, Tensor], tuple[Tensor, Tensor]],
    train: Cases,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    accelerator: Accelerator,
    batch_size: int,
    draws: torch.Generator,
) -> float:
    order = torch.randperm(len(train.labels), generator=draws)
    views = torch.randint(len(train.maps), order.shape, generator=draws)
    total = 0.0
    for rows, chosen in zip(order.split(batch_size), views.split(batch_size), strict=True):
        batch = [part[chosen, rows].to(accelerator.device).float() for part in (train.maps, train.pooled)]
        with accelerator.autocast():
            loss, objective = losses_of(batch, train.labels[rows].to(accelerator.device), rows)
        if not torch.isfinite(objective):
            raise FloatingPointError("the training loss is not finite; lower finetune.learning_rate")
        optimizer.zero_grad()
        accelerator.backward(objective)
        optimizer.step()
        schedule.step()
        total += float(loss.detach()) * len(rows)
    return total / len(train.labels)
