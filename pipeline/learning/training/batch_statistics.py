"""Normalisation layers that learn their statistics from the batches they see, as a network from random weights needs.

A pretrained network keeps the statistics it came with, so that a step does not depend on the batch it is in.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

STATISTICS = ("running_mean", "running_var")


def statistics_of(network: nn.Module, norms: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Name the running statistics of these layers as the network does."""
    own = {id(value) for norm in norms for name, value in norm.named_buffers() if name in STATISTICS}
    return {name: value for name, value in network.named_buffers() if id(value) in own}


def norms_of(stages: Iterable[nn.Module]) -> list[_BatchNorm]:
    """List the layers of some stages that normalise by the batch."""
    return [layer for stage in stages for layer in stage.modules() if isinstance(layer, _BatchNorm)]


@contextmanager
def of_the_batch(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let layers normalise by the batch for a while, and remember a running mean of what they saw."""
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    counted = [counter.clone() for counter in counters]
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for norm in norms:
            norm.eval()
        for counter, count in zip(counters, counted, strict=True):
            counter.copy_(count)  # nothing reads it here, and no checkpoint keeps it
