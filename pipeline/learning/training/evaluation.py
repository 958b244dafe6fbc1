"""Evaluate a network during its training."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from pipeline.learning.models.tasks import Task
from pipeline.learning.models.trainable_top import TrainableTop
from pipeline.learning.training.alignment.loss_term import Alignment
from pipeline.learning.training.cases import Cases, in_order
from pipeline.learning.training.validators import information_maximisation

EVALUATED_AT_ONCE = 32


@dataclass(frozen=True)
class Evaluator:
    """Compute the losses by which epochs are compared.

    Attributes
    ----------
    weights : Tensor
        Class weights, from `Task.weights`.
    """

    top: TrainableTop
    task: Task
    weights: Tensor
    accelerator: Accelerator

    @torch.no_grad()
    def loss(self, cases: Cases) -> float:
        """Compute the class-weighted log-loss of the cases without augmentation."""
        if self.task.joint:
            logits = [self.logits(maps, pooled) for _, (maps, pooled) in in_order(cases, EVALUATED_AT_ONCE)]
            loss, events = self.task.losses(torch.cat(logits).cpu(), cases.targets, self.weights)
            return float(loss / events.clamp(min=1))
        totals = torch.zeros(2, dtype=torch.float64)
        for rows, (maps, pooled) in in_order(cases, EVALUATED_AT_ONCE):
            targets = cases.targets[rows].to(self.accelerator.device)
            found = self.task.losses(self.logits(maps, pooled), targets, self.weights)
            totals += torch.tensor([float(value) for value in found], dtype=torch.float64)
        return float(totals[0] / totals[1])

    @torch.no_grad()
    def logits(self, maps: Tensor, pooled: Tensor) -> Tensor:
        """Compute logits (B, n_classes) in float32 from activations."""
        device = self.accelerator.device
        with self.accelerator.autocast():
            logits: Tensor = self.top(maps.to(device).float(), pooled.to(device).float())
        return logits.float()

    def information(self, alignment: Alignment | None) -> float:
        """Compute the information of the predictions for the target of an alignment, in nats; 0 without one."""
        if alignment is None or alignment.weight == 0:
            return 0.0
        target = alignment.target
        parts = zip(target.maps[0].split(EVALUATED_AT_ONCE), target.pooled[0].split(EVALUATED_AT_ONCE), strict=True)
        logits = torch.cat([self.logits(maps, pooled) for maps, pooled in parts])
        return information_maximisation(logits.double().cpu().numpy())
