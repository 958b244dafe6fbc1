"""The one training loop: from a linear probe onwards, over frozen activations, until the inner loss stops falling."""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.learning.alignment import Alignment, look
from pipeline.learning.classifier import Classifier, Tail

log = logging.getLogger(__name__)


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
        View 0 is the case as it is.
    pooled : (V, n, S, w) float16
        What the pooled stages before the boundary gave.
    labels : (n,) int64
    """

    maps: Tensor
    pooled: Tensor
    labels: Tensor

    def batches(self, size: int, view: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Give one view of the cases in their order, in batches of maps and pooled features."""
        return zip(self.maps[view].split(size), self.pooled[view].split(size), strict=True)


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve; epoch 0 is the probe. Losses are class-weighted log-losses in nats."""

    epoch: int
    train_loss: float
    inner_loss: float
    learning_rate: float
    best: bool


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
    epoch is the one of the lowest inner log-loss; epoch 0, the network as it came, takes part.

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
        What is added to the loss of each step to draw sites together; the inner loss stays without it.

    Returns
    -------
    list of Epoch
        From epoch 0 to the last one run.
    """
    plain = Tail(network, first_trained_stage(network, recipe)).eval()
    groups = parameter_groups(network, recipe)
    groups += alignment.parameter_groups(recipe.learning_rate) if alignment else []
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=accelerator.device.type == "cuda")
    tail, optimizer = accelerator.prepare(plain, optimizer)
    loss_of = nn.CrossEntropyLoss(weight=weights.to(accelerator.device))
    losses_of = partial(_losses, tail, plain, loss_of, alignment)
    draws = torch.Generator().manual_seed(seed)
    steps = recipe.epochs * math.ceil(len(train.labels) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = evaluate(tail, inner, loss_of, accelerator)
    curve = [Epoch(0, evaluate(tail, train, loss_of, accelerator), start, 0.0, True)]
    tell(curve[0])
    best = copy.deepcopy(network.state_dict())
    for number in range(1, recipe.epochs + 1):
        rate = float(optimizer.param_groups[0]["lr"])
        train_loss = _one_epoch(losses_of, train, optimizer, schedule, accelerator, recipe.batch_size, draws)
        inner_loss = evaluate(tail, inner, loss_of, accelerator)
        is_best = inner_loss < min(epoch.inner_loss for epoch in curve)
        curve.append(Epoch(number, train_loss, inner_loss, rate, is_best))
        tell(curve[-1])
        if is_best:
            best = copy.deepcopy(network.state_dict())
        if number - max(epoch.epoch for epoch in curve if epoch.best) >= recipe.patience:
            break
    network.load_state_dict(best)
    return curve


@torch.no_grad()
def evaluate(tail: nn.Module, cases: Cases, loss_of: nn.Module, accelerator: Accelerator) -> float:
    """Compute the class-weighted log-loss of the cases as they are (view 0)."""
    with accelerator.autocast():
        parts = [(part.to(accelerator.device).float() for part in batch) for batch in cases.batches(32)]
        logits = torch.cat([tail(*batch).float() for batch in parts])
    return float(loss_of(logits, cases.labels.to(accelerator.device)))


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
