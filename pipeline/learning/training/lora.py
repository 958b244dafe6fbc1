"""Low-rank updates of a transformer's weights: W + (a / r) B A, so that a few thousand numbers are trained.

Hu et al. 2022, "LoRA: low-rank adaptation of large language models", section 4.1. Afterwards the update is added to W
for good: what is stored and released is a plain network.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

SCALE = 2.0  # a / r


class LowRank(nn.Module):
    """W -> W + SCALE B A, with A random and B zero at first, so that nothing changes before the first step."""

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
    """Replace, for a training, the weights of every linear layer of some stages by themselves plus an update.

    All else in the stages is frozen. At the end the updates are added to the weights.

    Parameters
    ----------
    rank : int
        Of the updates; 0 leaves the stages alone.
    seed : int
        Of their first values; the global generator is left as it is.

    Raises
    ------
    ValueError
        If there is no linear layer inside a transformer's attention: convolutions are not updated this way.
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
