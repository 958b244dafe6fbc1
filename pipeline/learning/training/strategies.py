"""The recipes of fine-tuning, from cheap to dear: what is put into the head, and what is trained from there.

All but `knn` begin with the linear probe, since a head of random weights would corrupt the features below it before it
knows anything (Kumar, Raghunathan, Jones, Ma, Liang 2022, "Fine-tuning can distort pretrained features", section 3).
"""

from dataclasses import dataclass, replace

from pipeline.learning.training.recipe import Recipe

EVERYTHING = 10_000


@dataclass(frozen=True)
class Strategy:
    """What is trained of a network.

    Attributes
    ----------
    stages : int, optional
        How many of the encoder's last stages; None takes `finetune.trainable_stages`, 0 trains nothing.
    neighbours : bool
        Whether the nearest training cases vote instead of a linear head.
    gradual : bool
        Unfreeze one stage after the other (Howard, Ruder 2018, section 3.3).
    low_rank : bool
        Train low-rank updates of the stages' weights (`lora.py`).
    """

    stages: int | None = None
    neighbours: bool = False
    gradual: bool = False
    low_rank: bool = False

    @property
    def trains(self) -> bool:
        """Whether anything is trained by gradients."""
        return self.stages != 0

    def recipe(self, recipe: Recipe, n_stages: int) -> Recipe:
        """Fit a recipe to this strategy, of a network with so many stages."""
        stages = min(recipe.trainable_stages if self.stages is None else self.stages, n_stages)
        rank = recipe.rank if self.low_rank else 0
        epochs = recipe.epochs if self.trains else 0
        return replace(recipe, trainable_stages=stages, epochs=epochs, gradual=self.gradual, rank=rank)


STRATEGIES: dict[str, Strategy] = {
    "knn": Strategy(stages=0, neighbours=True),
    "probe": Strategy(stages=0),
    "last_stage": Strategy(stages=1),
    "lp_ft": Strategy(),
    "gradual": Strategy(gradual=True),
    "lora": Strategy(low_rank=True),
    "full": Strategy(stages=EVERYTHING),
}
SEARCH = ("knn", "probe", "last_stage", "lp_ft", "full")  # what `auto` tries


def search_of(recipe: Recipe, n_stages: int, frozen: bool) -> list[str]:
    """List what `auto` tries of a network; what would be the same training as one before is left out.

    Parameters
    ----------
    frozen : bool
        Whether no stage may be trained.
    """
    candidates: dict[tuple[bool, int], str] = {}
    for name in SEARCH:
        trained = STRATEGIES[name].recipe(recipe, n_stages).trainable_stages
        candidates.setdefault((STRATEGIES[name].neighbours, trained), name)
    return [name for (_, trained), name in candidates.items() if not (frozen and trained)]
