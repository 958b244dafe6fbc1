"""Train low-rank updates of a transformer's weights, W + (a / r) B A, instead of the weights.

Hu et al. 2022, "LoRA: low-rank adaptation of large language models", section 4.1. After training the update is added
to W, so that a plain network is stored and released.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

SCALE = 2.0  # a / r


class LowRank(nn.Module):
    """Parametrisation W -> W + SCALE B A; B starts at zero, so that the network is unchanged before the first step."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.empty(rank, columns, dtype=weight.dtype, device=weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, dtype=weight.dtype, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Add the update to a weight (rows, columns)."""
        return weight + SCALE * self.up @ self.down


@contextmanager
def low_rank(stages: Iterable[nn.Module], rank: int, seed: int) -> Iterator[None]:
    """Add trainable low-rank updates to every linear layer of some stages inside the block.

    All other parameters of the stages are frozen. At the end the updates are added to the weights.

    Parameters
    ----------
    rank : int
        Rank of the updates; 0 leaves the stages unchanged.
    seed : int
        Seed of the initial values; the state of the global generator is restored.

    Raises
    ------
    ValueError
        If the stages have no attention: convolutions are not updated this way.
    """
    layers = [layer for stage in stages for layer in stage.modules() if isinstance(layer, nn.Linear)] if rank else []
    if rank and not any("attn" in name for stage in stages for name, _ in stage.named_modules()):
        raise ValueError("lora updates the linear layers of a transformer, and this encoder has no attention")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for stage in stages if rank else ():
            stage.requires_grad_(False)
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))
    try:
        yield
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
