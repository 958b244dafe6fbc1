"""Fine-tuning strategies from cheap to expensive: the initial head, and which stages are trained.

All but `knn` start from a linear probe, because the gradients of a random head would distort the features below it
(Kumar, Raghunathan, Jones, Ma, Liang 2022, "Fine-tuning can distort pretrained features", section 3).
"""

from dataclasses import dataclass, replace

from pipeline.learning.training.recipe import Recipe

EVERYTHING = 10_000


@dataclass(frozen=True)
class Strategy:
    """Which parts of a network are trained.

    Attributes
    ----------
    stages : int, optional
        How many of the encoder's last stages are trained; None takes `finetune.trainable_stages`, 0 trains nothing.
    neighbours : bool
        Use a nearest-neighbour head instead of a linear one.
    gradual : bool
        Unfreeze one stage after the other (Howard, Ruder 2018, section 3.3).
    low_rank : bool
        Train low-rank updates of the stages' weights (`lora.py`).
    whole : bool
        Train on all cases, those for validation included, with a fixed schedule.
    """

    stages: int | None = None
    neighbours: bool = False
    gradual: bool = False
    low_rank: bool = False
    whole: bool = False

    @property
    def trains(self) -> bool:
        """Whether anything is trained by gradients."""
        return self.stages != 0

    def recipe(self, recipe: Recipe, n_stages: int) -> Recipe:
        """Adapt a recipe to this strategy, for a network with `n_stages` stages."""
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
    "full": Strategy(stages=EVERYTHING, whole=True),
}
PORTFOLIO = ("knn", "probe", "full")  # possible members of a portfolio: none of them needs validation cases
CANDIDATES = ("knn", "probe", "last_stage", "lp_ft")  # tried by `auto`


def candidates_of(recipe: Recipe, n_stages: int, frozen: bool) -> list[str]:
    """List the strategies that `auto` tries; one that trains the same stages as an earlier one is left out.

    Parameters
    ----------
    frozen : bool
        Whether no stage may be trained.
    """
    candidates: dict[tuple[bool, int], str] = {}
    for name in CANDIDATES:
        trained = STRATEGIES[name].recipe(recipe, n_stages).trainable_stages
        candidates.setdefault((STRATEGIES[name].neighbours, trained), name)
    return [name for (_, trained), name in candidates.items() if not (frozen and trained)]
