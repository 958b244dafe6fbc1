"""Let normalisation layers learn their statistics from batches, as training from random weights requires.

A pretrained network keeps its statistics, so that the output for a case does not depend on the other cases of a batch.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

STATISTICS = ("running_mean", "running_var")


def statistics_of(network: nn.Module, norms: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Return the running statistics of these layers by their names in the network."""
    own = {id(value) for norm in norms for name, value in norm.named_buffers() if name in STATISTICS}
    return {name: value for name, value in network.named_buffers() if id(value) in own}


def norms_of(stages: Iterable[nn.Module]) -> list[_BatchNorm]:
    """List the batch normalisation layers of some stages."""
    return [layer for stage in stages for layer in stage.modules() if isinstance(layer, _BatchNorm)]


@contextmanager
def of_the_batch(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let layers normalise by the batch inside the block, and update their running statistics."""
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
            counter.copy_(count)  # no layer reads the counter, and no checkpoint keeps it
