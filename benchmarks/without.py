"""Run a stage with one lever of the training of every stage taken out, which no parameter does; for ablation.py.

python benchmarks/without.py "moving average" finetune --fold 0
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.__main__ import main
from pipeline.learning.training import finetuning, loop
from pipeline.learning.training.batches import Drawn, batches
from pipeline.learning.training.cases import WholeCases
from pipeline.learning.training.recipe import Recipe
from pipeline.stages.finetune import fold_data, members


def recipe_with(**changes: Any) -> None:
    """Let the training of every stage have other settings than params.yaml can give it."""
    chosen = fold_data.full_recipe_of
    vars(members)["full_recipe_of"] = lambda *arguments: replace(chosen(*arguments), **changes)


def no_moving_average() -> None:
    recipe_with(average="none")


def no_warm_up() -> None:
    recipe_with(warm_up=0.0)


def no_cosine() -> None:
    def share_of(recipe: Recipe, depth: int, steps: int) -> Callable[[int], float]:
        risen = round(recipe.warm_up * recipe.epochs * steps)
        return lambda step: min((step + 1) / (risen + 1), 1.0)

    Recipe.share_of = share_of  # type: ignore[method-assign]


def no_clipping() -> None:
    recipe_with(clip=None)


def no_own_statistics() -> None:
    """Keep the normalisation statistics that the encoder had after adaptation."""
    recipe_with(batch_statistics=False)
    vars(finetuning)["estimate_statistics"] = lambda *arguments, **options: None


def no_probe() -> None:
    """Start from a head of zero."""

    def start(network: Any, *arguments: Any) -> float:
        for value in network.head.parameters():
            value.data.zero_()
        return 0.0

    vars(finetuning)["_start_from_probe"] = start


def no_new_views() -> None:
    """Let every epoch see the views of the first one."""

    def first(cases: Any, task: Any, recipe: Recipe, seeds: Sequence[int], **of_process: int) -> Iterator[Drawn]:
        return batches(cases, task, recipe, [seeds[0], 1], **of_process)

    vars(loop)["batches"] = first


def no_augmentation() -> None:
    WholeCases.drawn = lambda cases, rows, seeds: cases.plain(rows)  # type: ignore[method-assign]


LEVERS: dict[str, Callable[[], None]] = {
    "moving average": no_moving_average,
    "warm-up": no_warm_up,
    "cosine schedule": no_cosine,
    "gradient clipping": no_clipping,
    "statistics of the training images": no_own_statistics,
    "start from a probe": no_probe,
    "new views in each epoch": no_new_views,
    "augmentation": no_augmentation,
}

if __name__ == "__main__":
    os.environ["MEDADAPT_CHECKPOINT_SECONDS"] = "1e9"  # or a killed run would go on as one with the lever
    LEVERS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
