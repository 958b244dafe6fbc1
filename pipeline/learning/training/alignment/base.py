"""Unlabelled cases in training: a batch of them beside every labelled one, and a term that draws the two together.

A term is an nn.Module, term(features (B, width), domains (B,), labelled (B,), logits (B, k)) -> scalar, over both
batches side by side; `methods/` holds one file for each. The domain is the site of a case.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.models.classifier import Activations, Tail


@dataclass(frozen=True)
class Target:
    """Unlabelled cases as activations at the freeze boundary; what `cases.FrozenCases` holds, with sites for labels.

    Attributes
    ----------
    maps : (V, m, S, C, h, w) float16
        Of an inflated encoder (V, m, 1, C, D, h, w). View 0 is the case as it is.
    pooled : (V, m, S, w) float16
        What the pooled stages before the boundary gave.
    domains : (m,) int64
        Site of each case, numbered together with the training cases' sites.
    """

    maps: Tensor
    pooled: Tensor
    domains: Tensor


@dataclass(frozen=True)
class Alignment:
    """What a training step adds to its loss: weight * term(labelled batch and unlabelled batch).

    Attributes
    ----------
    term : nn.Module
        On the device of the network.
    weight : float
        Of the term beside the class-weighted log-loss. At 0 nothing is drawn or run and the loss stays as it is.
    target : Target
        Where the unlabelled cases come from; on the processor is fine.
    domains : (n,) int64
        Site of each training case.
    batch_size : int
        Unlabelled cases of a step, without repetition; all of them where there are fewer.
    draws : torch.Generator
        Of its own, so that the order of the training cases and their views stay what they are without it.
    """

    term: nn.Module
    weight: float
    target: Target
    domains: Tensor
    batch_size: int
    draws: torch.Generator

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Give what the term itself learns (the domain classifier of DANN) to the optimizer."""
        learned = list(self.term.parameters()) if self.weight else []
        return [{"params": learned, "lr": learning_rate}] if learned else []

    def state(self) -> dict[str, Any]:
        """Give all that changes in training: what the term learned, how far it came, and the draws to come."""
        return {
            "term": self.term.state_dict(),
            "calls": getattr(self.term, "calls", 0),
            "draws": self.draws.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.term.load_state_dict(state["term"])
        if hasattr(self.term, "calls"):
            self.term.calls = state["calls"]
        self.draws.set_state(state["draws"])

    def __call__(self, tail: Tail, features: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        """Draw unlabelled cases, run them, and compare them with the labelled batch.

        Parameters
        ----------
        tail : Tail
            As it is in this step.
        features, logits : (b, width), (b, n_classes)
            What `look` gave for the labelled batch, in its graph.
        rows : (b,) int64
            Which training cases those are.

        Returns
        -------
        Tensor
            Scalar in float32, whatever the precision around it.
        """
        if self.weight == 0:
            return features.new_zeros((), dtype=torch.float32)
        maps, pooled, others = draw(self.target, self.batch_size, self.draws)
        device = features.device
        unlabelled, their_logits = look(tail, maps.to(device).float(), pooled.to(device).float())
        domains = torch.cat([self.domains[rows], others]).to(device)
        labelled = torch.arange(len(domains), device=device) < len(rows)
        with torch.autocast(device.type, enabled=False):
            both = torch.cat([features.float(), unlabelled.float()])
            term: Tensor = self.term(both, domains, labelled, torch.cat([logits.float(), their_logits.float()]))
            return self.weight * term


def draw(target: Target, size: int, draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw unlabelled cases without repetition, one view of each: maps, pooled features and domains."""
    rows = torch.randperm(len(target.domains), generator=draws)[:size]
    views = torch.randint(len(target.maps), rows.shape, generator=draws)
    return target.maps[views, rows], target.pooled[views, rows], target.domains[rows]


def look(tail: Tail, maps: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Run the tail and keep what its head sees: features (B, width), logits (B, n_classes); the logits of tail()."""
    network = tail.network
    features, _ = network.attention(network.features(Activations(maps, pooled), tail.first))
    return features, network.head(features)


def by_domain(features: Tensor, domains: Tensor, fewest: int = 1) -> list[Tensor]:
    """Split the rows of a batch by domain, leaving out domains of fewer than `fewest` cases."""
    parts = [features[domains == domain] for domain in domains.unique()]
    return [part for part in parts if len(part) >= fewest]
