"""Train and evaluate one encoder with the head of an objective."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from pipeline.learning.models.encoder import Encoder, kernels_last
from pipeline.stages.adapt.pretraining.objective import Objective, View

Pair = tuple[View, View]
HEAD_RATE = 10  # heads start from random weights, the encoder does not


class Learner:
    """An encoder, trained or frozen, an objective whose head is trained on it, and their optimizer.

    Parameters
    ----------
    trainable_stages : int
        Number of last stages of the encoder that are trained if it moves; nothing else of it gets a gradient.
    learning_rate, weight_decay : float
        AdamW's for the encoder; the rate of heads is ten times higher.
    moves : bool
        If False, the encoder is frozen and only the head is trained.
    """

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        *,
        accelerator: Accelerator,
        trainable_stages: int,
        learning_rate: float,
        weight_decay: float,
        moves: bool,
    ) -> None:
        self.encoder, self.objective, self.accelerator = encoder.eval(), objective.eval(), accelerator
        for module in (encoder, objective):
            kernels_last(module.to(accelerator.device))
        last = encoder.stages[max(len(encoder.stages) - trainable_stages, 0) :]
        trained = [*last.parameters(), *encoder.norm.parameters()]
        heads = [value for value in objective.parameters() if value.requires_grad]
        encoder.requires_grad_(False)
        for value in trained:
            value.requires_grad_(moves)
        self.rates = (learning_rate, HEAD_RATE * learning_rate)
        groups, fused = [{"params": trained}, {"params": heads}], accelerator.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay, fused=fused)

    def state(self) -> dict[str, Any]:
        """Collect everything that changes in training, without copying."""
        return {
            "encoder": self.encoder.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load a state; the state itself is not changed later."""
        self.encoder.load_state_dict(state["encoder"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))

    def learn(self, pair: Pair, share: float, draws: torch.Generator) -> float:
        """Make one optimizer step at a share of the full rates; return the loss."""
        for group, full in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = full * share
        with self.accelerator.autocast():
            loss = self.objective(self.encoder, *pair, draws)
        if not torch.isfinite(loss):
            raise FloatingPointError("the self-supervised loss is not finite; lower adapt.learning_rate")
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.objective.after_step(self.encoder)
        return float(loss.detach())

    @torch.no_grad()
    def evaluate(self, held_out: Iterable[Pair], draws: torch.Generator) -> tuple[float, float]:
        """Compute the mean loss of pairs, and the effective rank of the first views' features."""
        total, features = 0.0, []
        for first, second in held_out:
            with self.accelerator.autocast():
                total += float(self.objective.score(self.encoder, first, second, draws)) * len(first)
                features.append(self.encoder(first).float().cpu())
        return total / sum(map(len, features)), effective_rank(torch.cat(features))


def effective_rank(features: Tensor) -> float:
    """Compute the effective rank of features (n, width), the exponential entropy of their normalised singular values.

    exp(- sum_k p_k ln p_k), p_k = sigma_k / sum sigma (Roy, Vetterli 2007; for self-supervised features: Garrido et
    al. 2023, "RankMe", equation 1). Between 1 and min(n, width); 1 for constant features.
    """
    values = torch.linalg.svdvals(features.detach().double())
    return float(torch.special.entr(values / values.sum().clamp(min=1e-300)).sum().exp())
