"""Let normalisation layers learn their statistics from batches, as training from random weights requires.

A pretrained network keeps its statistics, so that the output for a case does not depend on the other cases of a batch.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.learning.models.adabn import adabn
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.cases import WholeCases
from pipeline.learning.training.evaluation import EVALUATED_AT_ONCE

VIEWS = 2  # of each case, when statistics of views are estimated
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


def estimate_statistics(network: Classifier, cases: WholeCases, seed: int, of_views: bool = False) -> None:
    """Estimate the normalisation statistics on the images, or on two views of each, in shuffled batches.

    A moving average over the batches of a training lags behind its weights (Izmailov et al. 2018, "Averaging weights
    leads to wider optima and better generalization", section 3.2). Views as of other scanners make the network robust
    to such scanners, whose images fall outside of the statistics of the training images.
    """
    rng = np.random.default_rng([seed, 0])

    def inputs() -> Iterator[Tensor]:
        for _ in range(VIEWS if of_views else 1):
            for rows in without_single(torch.from_numpy(rng.permutation(len(cases.targets))).split(EVALUATED_AT_ONCE)):
                seeds = rng.integers(2**32, size=len(rows), dtype=np.uint32) if of_views else None
                yield (cases.plain(rows) if seeds is None else cases.varied(rows, seeds))[0].flatten(0, 1)

    adabn(network.encoder, inputs())


def without_single(batches: Sequence[Tensor]) -> list[Tensor]:
    """Join a last batch of one case to the one before it, since a single case may have no variance."""
    if len(batches) < 2 or len(batches[-1]) > 1:
        return list(batches)
    return [*batches[:-2], torch.cat([batches[-2], batches[-1]])]
