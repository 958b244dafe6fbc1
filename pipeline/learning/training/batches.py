"""Draw the batches of an epoch: cases, views and mixing, the same in every process."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.learning.models.tasks import Task
from pipeline.learning.training.cases import Batch, Cases
from pipeline.learning.training.mixing import mixed
from pipeline.learning.training.recipe import Recipe

Drawn = tuple[Tensor, Batch, Tensor]


def batches(
    cases: Cases, task: Task, recipe: Recipe, seeds: Sequence[int], *, process: int = 0, processes: int = 1
) -> Iterator[Drawn]:
    """Draw the batches of an epoch.

    Parameters
    ----------
    seeds : sequence of int
        Seed of the training and number of the epoch. All draws depend on them and on the rows of the cases only.
    process, processes : int
        Number of this process, and how many processes share a batch.

    Yields
    ------
    rows : (B,) int64
        Rows of the whole batch.
    batch : maps and pooled
        The share of this process: a random view of each case.
    targets : (b, n_classes)
        Targets of that share.
    """
    rng, mine = np.random.default_rng(seeds), slice(process, None, processes)
    order = _order(cases, task, recipe, rng)
    of_views = rng.integers(2**32, size=len(order), dtype=np.uint32)
    for rows in order.split(recipe.batch_size):
        drawn = rows if recipe.mix != "none" else rows[mine]  # a case may be mixed with one of another process
        maps, pooled = cases.drawn(drawn, of_views[drawn.numpy()])
        targets = task.smoothed(cases.targets[rows], recipe.label_smoothing)
        if recipe.mix != "none":
            maps, pooled, targets = mixed(
                maps.float(), pooled.float(), targets, how=recipe.mix, alpha=recipe.mix_alpha, rng=rng
            )
            maps, pooled = maps[mine], pooled[mine]
        yield rows, (maps, pooled), targets[mine]


def _order(cases: Cases, task: Task, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Shuffle the cases; with `class_weights` "sampling", draw as many with replacement, classes equally often."""
    count = len(cases.targets)
    kinds = task.kinds(cases.targets)
    if kinds is not None:
        return _interleaved(kinds.numpy(), rng)
    if recipe.class_weights != "sampling":
        return torch.from_numpy(rng.permutation(count))
    shares = task.sampling(cases.targets).double().numpy()
    return torch.from_numpy(rng.choice(count, size=count, p=shares / shares.sum()))


def _interleaved(kinds: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """Shuffle cases so that every stretch holds each kind in about its share."""
    order = rng.permutation(len(kinds))
    place = np.empty(len(order))
    for kind in np.unique(kinds):
        here = kinds[order] == kind
        place[here] = (np.arange(here.sum()) + rng.random()) / here.sum()
    return torch.from_numpy(order[place.argsort(kind="stable")])
