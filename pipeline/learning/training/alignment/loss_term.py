"""Align unlabelled cases with labelled ones in training, by a loss over a batch of each.

An alignment loss is an nn.Module, loss(features (B, width), domains (B,), labelled (B,), logits (B, k)) -> scalar,
over both batches side by side; this folder holds one file for each loss. The domain of a case is its site.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.models.trainable_top import TrainableTop


@dataclass(frozen=True)
class Target:
    """Unlabelled cases as activations at the freeze boundary: as `cases.FrozenCases`, with sites instead of labels.

    Attributes
    ----------
    maps : (V, m, S, C, h, w) float16
        Of an inflated encoder (V, m, 1, C, D, h, w). View 0 is the case as it is.
    pooled : (V, m, S, w) float16
        Means of the pooled stages before the boundary.
    domains : (m,) int64
        Site of each case, numbered together with the training cases' sites.
    """

    maps: Tensor
    pooled: Tensor
    domains: Tensor


@dataclass(frozen=True)
class Alignment:
    """What a training step adds to its loss: weight * loss(labelled batch and unlabelled batch).

    Attributes
    ----------
    loss : nn.Module
        The alignment loss, on the device of the network.
    weight : float
        Its weight beside the class-weighted log-loss. At 0 no unlabelled case is drawn and the training loss is
        unchanged.
    target : Target
        The unlabelled cases; their tensors may be on the CPU.
    domains : (n,) int64
        Site of each training case.
    batch_size : int
        Number of unlabelled cases in a step, without repetition; all of them if there are fewer.
    draws : torch.Generator
        A generator of its own, so that alignment changes neither the order nor the views of the training cases.
    """

    loss: nn.Module
    weight: float
    target: Target
    domains: Tensor
    batch_size: int
    draws: torch.Generator

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Return the parameters of the loss itself (the domain classifier of DANN) for the optimizer."""
        learned = list(self.loss.parameters()) if self.weight else []
        return [{"params": learned, "lr": learning_rate}] if learned else []

    def state(self) -> dict[str, Any]:
        """Return all that changes in training: parameters and calls of the loss, and the state of the draws."""
        return {
            "loss": self.loss.state_dict(),
            "calls": getattr(self.loss, "calls", 0),
            "draws": self.draws.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.loss.load_state_dict(state["loss"])
        if hasattr(self.loss, "calls"):
            self.loss.calls = state["calls"]
        self.draws.set_state(state["draws"])

    def __call__(self, top: TrainableTop, features: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        """Draw unlabelled cases, run them, and compare them with the labelled batch.

        Parameters
        ----------
        top : TrainableTop
            In its present state.
        features, logits : (b, width), (b, n_classes)
            Of the labelled batch, from `TrainableTop.features_and_logits`, in its graph.
        rows : (b,) int64
            Rows of these cases among the training cases.

        Returns
        -------
        Tensor
            Scalar in float32, also under autocast.
        """
        if self.weight == 0:
            return features.new_zeros((), dtype=torch.float32)
        maps, pooled, others = draw(self.target, self.batch_size, self.draws)
        device = features.device
        unlabelled, their_logits = top.features_and_logits(maps.to(device).float(), pooled.to(device).float())
        domains = torch.cat([self.domains[rows], others]).to(device)
        labelled = torch.arange(len(domains), device=device) < len(rows)
        with torch.autocast(device.type, enabled=False):
            both = torch.cat([features.float(), unlabelled.float()])
            loss: Tensor = self.loss(both, domains, labelled, torch.cat([logits.float(), their_logits.float()]))
            return self.weight * loss


def draw(target: Target, size: int, draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw unlabelled cases without repetition, one view of each: maps, pooled features and domains."""
    rows = torch.randperm(len(target.domains), generator=draws)[:size]
    views = torch.randint(len(target.maps), rows.shape, generator=draws)
    return target.maps[views, rows], target.pooled[views, rows], target.domains[rows]


def by_domain(features: Tensor, domains: Tensor, fewest: int = 1) -> list[Tensor]:
    """Split the rows of a batch by domain, leaving out domains of fewer than `fewest` cases."""
    parts = [features[domains == domain] for domain in domains.unique()]
    return [part for part in parts if len(part) >= fewest]
