"""The batches of an epoch: which cases, which views of them, and how they are blended; the same in every process."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
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
        Of the training, and the number of the epoch: all draws come from them and the rows of the cases.
    process, processes : int
        A batch is assigned to so many processes, of which this is one.

    Yields
    ------
    rows : (B,) int64
        Of the whole batch.
    batch : maps and pooled
        This process's share of it, a random view of each case.
    targets : (b, n_classes)
        Of that share.
    """
    rng, mine = np.random.default_rng(seeds), slice(process, None, processes)
    order = _order(cases, task, recipe, rng)
    of_views = rng.integers(2**32, size=len(order), dtype=np.uint32)
    for rows in order.split(recipe.batch_size):
        drawn = rows if recipe.mix != "none" else rows[mine]  # what is blended may lie with another process
        maps, pooled = cases.drawn(drawn, of_views[drawn.numpy()])
        targets = task.smoothed(cases.targets[rows], recipe.label_smoothing)
        if recipe.mix != "none":
            maps, pooled, targets = mixed(
                maps.float(), pooled.float(), targets, how=recipe.mix, alpha=recipe.mix_alpha, rng=rng
            )
            maps, pooled = maps[mine], pooled[mine]
        yield rows, (maps, pooled), targets[mine]


def _order(cases: Cases, task: Task, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Shuffle the cases; where classes are to be seen as often as each other, draw as many with repetition."""
    count = len(cases.targets)
    if recipe.class_weights != "sampling":
        return torch.from_numpy(rng.permutation(count))
    shares = task.sampling(cases.targets).double().numpy()
    return torch.from_numpy(rng.choice(count, size=count, p=shares / shares.sum()))
