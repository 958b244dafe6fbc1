"""Trainings of the arms of `evidence`, within a budget; each is kept, so that a changed metric trains nothing again."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import cache, paths, runtime
from pipeline.imaging.geometry import REFERENCE_SIZE
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.probe import parts
from pipeline.learning.training.cases import FrozenCases, WholeCases
from pipeline.learning.training.costs import passes_of_epoch, shares_of
from pipeline.learning.training.finetuning import Labelled, Setting
from pipeline.learning.training.recipe import Recipe
from pipeline.learning.training.strategies import STRATEGIES
from pipeline.paths import Role
from pipeline.seeds import seed_for
from pipeline.stages.evidence.experiments.networks import ADAPTED, SCRATCH, Arms, NotMeasured, training_code
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.learners.from_scratch import (
    LONGER,
    TRIAL_EPOCHS,
    best_rate,
    passes_of_search,
    recipe_from_scratch,
)
from pipeline.stages.evidence.learners.subsets import nested
from pipeline.stages.evidence.learners.watching import Watched, watch
from pipeline.stages.finetune.fold_data import alignment_of, frozen_stages, labelled_cases, recipe_of, whole_cases

log = logging.getLogger(__name__)

INNER_PARTS = 5  # of the patients of a smaller share, one part stops the training
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """What a training gave, and how it went.

    Attributes
    ----------
    watched : Watched
    passes : (E,)
        Reference images through the whole encoder until the end of each epoch, from the probe on.
    patients : int
        With labels: those that were learned from and those that stopped the training.
    train_patients : (n,) str
        Of the cases that were learned from.
    rate : float
    """

    watched: Watched
    passes: Floats
    patients: int
    train_patients: NDArray[np.str_]
    rate: float


class Trainings:
    """Trains arms on splits, and counts what that costs.

    Parameters
    ----------
    arms : Arms
    budget : float
        Passes of a reference image through the encoder that may be spent.
    """

    def __init__(self, arms: Arms, budget: float) -> None:
        self.arms, self.left, self.settings = arms, budget, arms.params.finetune
        self.recipe = replace(recipe_of(self.settings), average="none")
        self.shares = shares_of(arms.start().encoder, arms.geometry.channels)
        self.rates: dict[str, float] = {}

    def trained(self, arm: str, split: Split, allowed: float) -> Trained:
        """Train an arm on all labelled cases of a split.

        Parameters
        ----------
        allowed : float
            Passes that a training from scratch may take, the search for its rate included. The other arms take a
            fraction of that, and what their recipe says.

        Raises
        ------
        NotMeasured
            If the budget does not allow as many epochs from scratch as the other arms may take, or is spent.
        """
        epochs = self.epochs_of(arm, split, allowed)
        file = self.kept(arm, split, epochs)
        if not file.exists():
            write(self._train(arm, split, epochs), file)
        found = read(file)
        self.left -= found.passes[-1]
        if arm == SCRATCH:
            self.left -= self.cost_of_search(split)
            self.rates[split.name] = found.rate
        return found

    def epochs_of(self, arm: str, split: Split, allowed: float) -> int:
        """Say how many epochs a training may take."""
        if arm != SCRATCH:
            self.refuse(self.passes(arm, split, self.recipe.patience)[-1])
            return self.recipe.epochs
        free = min(allowed, self.left) - self.cost_of_search(split) - self.passes(arm, split, 0)[-1]
        epochs = int(free // self.epoch(arm, split))
        if epochs < self.recipe.epochs:
            raise NotMeasured(
                f"evidence.budget allows {max(epochs, 0)} epochs from scratch in {split.name}, fewer than the "
                f"{self.recipe.epochs} of the other arms"
            )
        return min(epochs, LONGER * self.recipe.epochs)

    def refuse(self, least: float) -> None:
        """Do not begin what cannot be finished."""
        if least > self.left:
            raise NotMeasured(
                f"evidence.budget has {max(self.left, 0):.0f} image passes left, and it takes {least:.0f}"
            )

    def epoch(self, arm: str, split: Split) -> float:
        """Count the passes of an epoch."""
        first = 0 if arm == SCRATCH else len(self.shares) - self.trained_stages
        train, validation = self.counts(split)
        return self.scale * passes_of_epoch(
            self.shares, first=first, trained=len(self.shares) - first, train=train, validation=validation
        )

    def passes(self, arm: str, split: Split, epochs: int) -> Floats:
        """Count the passes until the end of each epoch (1 + epochs,); the probe needs every view once."""
        train, validation = self.counts(split)
        views = 1 if arm == SCRATCH else 1 + self.settings.views
        statistics = train + validation if arm == SCRATCH else 0
        start = self.scale * (views * train + validation + statistics)
        return np.asarray(start + self.epoch(arm, split) * np.arange(epochs + 1), dtype=np.float64)

    def counts(self, split: Split) -> tuple[int, int]:
        """Count the images to learn from, and those that stop the training."""
        role, instances = split.cases["role"], self.arms.geometry.slices
        return int((role == Role.TRAIN).sum()) * instances, int((role == Role.VALIDATION).sum()) * instances

    @property
    def scale(self) -> float:
        """Passes of the reference image that one of these images is worth."""
        return (self.arms.geometry.image_size / REFERENCE_SIZE) ** 2

    @property
    def trained_stages(self) -> int:
        """Stages that are trained where the encoder was pretrained."""
        return STRATEGIES["lp_ft"].recipe(self.recipe, len(self.shares)).trainable_stages

    def cost_of_search(self, split: Split) -> float:
        """Count the passes of the choice of a rate; one that was made costs nothing more."""
        return 0.0 if split.name in self.rates else passes_of_search(self.epoch(SCRATCH, split))

    def rate(self, split: Split) -> float:
        """Choose the rate from scratch, on the labelled cases of the split alone, unless that was done."""
        if split.name in self.rates:
            return self.rates[split.name]
        file = self.kept("rate", split, TRIAL_EPOCHS).with_suffix(".json")
        if not file.exists():
            paths.write_json(best_rate(partial(self._try_rate, split)), file)
        return float(paths.read_json(file))

    def _try_rate(self, split: Split, rate: float, share: float) -> float:
        some = smaller(self.arms, split, share, draw=0)
        recipe = recipe_from_scratch(self.recipe, rate, TRIAL_EPOCHS)
        loss = min(self._watch(SCRATCH, some, recipe).validation_loss)
        log.info(
            "evidence, %s from scratch at rate %g on %.0f %%: validation loss %.4f", split.name, rate, 100 * share, loss
        )
        return loss

    def _train(self, arm: str, split: Split, epochs: int) -> Trained:
        recipe = recipe_from_scratch(self.recipe, self.rate(split), epochs) if arm == SCRATCH else self.recipe
        watched = self._watch(arm, split, recipe)
        epochs = len(watched.validation_loss) - 1
        passes = self.passes(arm, split, epochs)
        learned = split.cases[split.cases["role"] == Role.TRAIN]["patient"].to_numpy(dtype=str)
        log.info(
            "evidence, %s, %s: %d epochs, validation loss %.4f",
            split.name,
            arm,
            len(passes) - 1,
            min(watched.validation_loss),
        )
        return Trained(watched, passes, split.labelled["patient"].nunique(), learned, recipe.learning_rate)

    def _watch(self, arm: str, split: Split, recipe: Recipe) -> Watched:
        arms = self.arms
        network = arms.network(arm, split)
        if network.site_values.sites:
            raise NotMeasured("each site has values of its own, so that the encoder is not trained on")
        strategy = STRATEGIES["full" if arm == SCRATCH else "lp_ft"]
        change = {"strategy": "full", "views": 0} if arm == SCRATCH else {"strategy": "lp_ft"}
        settings = self.settings.model_copy(update=change)
        labelled = labelled_cases(network, split.cases, arms.views, arms.facts, settings, f"{arm}, {split.name}")
        evaluated = self._evaluated(network, split, labelled, recipe, arm)
        seed = seed_for(arms.params.seed, "finetune", split.name)
        setting = Setting(
            task=arms.facts["task"],
            recipe=recipe,
            accelerator=arms.accelerator,
            seed=seed,
            prefetch=runtime.prefetch,
        )
        term = partial(alignment_of, network, split.cases, arms.views, setting.task, arms.params, split.name)
        return watch(network, strategy, labelled, evaluated, setting, *([term] if arm == ADAPTED else []))

    def _evaluated(
        self, network: Classifier, split: Split, labelled: Labelled, recipe: Recipe, arm: str
    ) -> FrozenCases | WholeCases:
        targets = self.arms.targets(split.evaluated)
        if arm == SCRATCH:
            return whole_cases(network, split.evaluated, targets, self.arms.geometry)
        first = labelled.train.first
        views = frozen_stages(network, split.evaluated, self.arms.views, first, 0, f"{arm}, {split.name}")
        return FrozenCases(*views, targets, first)

    def kept(self, arm: str, split: Split, epochs: int) -> Path:
        """Name the file of a training by all that it depends on; metrics are none of it."""
        params = self.arms.params
        of_fold = (paths.adapted_encoder, paths.adapted_sites, paths.adaptation) if arm == ADAPTED else ()
        files = (paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX, *(name(split.name) for name in of_fold))
        settings = (arm, epochs, params.seed, params.adapt, params.finetune, self.arms.made_of, torch.__version__)
        name = cache.fingerprint(training_code(), files, *settings, split.cases.to_csv())[:32]
        return paths.SCRATCH / "evidence" / f"{name}.npz"


def smaller(arms: Arms, split: Split, share: float, draw: int) -> Split:
    """Learn from a share of the patients; anew, a part of them stops the training.

    Raises
    ------
    NotMeasured
        If a class has too few patients for that.
    """
    labelled = split.labelled
    targets, patients = arms.targets(labelled).numpy(), labelled["patient"].to_numpy(dtype=str)
    task, seed = arms.facts["task"], seed_for(arms.params.seed, "evidence", split.name, draw)
    rows = nested(targets, patients, [share], seed)[share]
    assigned = parts(targets[rows], patients[rows], most=INNER_PARTS, seed=seed, task=task)
    if not assigned:
        raise NotMeasured(f"in {split.name} {share:.0%} of the patients are too few of a class to train and to stop")
    names = labelled["case"].to_numpy()[rows]
    return split.only(names, names[assigned[0][1]])


def write(trained: Trained, file: Path) -> None:
    """Write a training, all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(".partial.npz")
    watched: dict[str, Any] = {name: np.array(value) for name, value in asdict(trained.watched).items()}
    facts = {"patients": trained.patients, "rate": trained.rate}
    own = {"passes": trained.passes, "train_patients": trained.train_patients, "facts": np.array(json.dumps(facts))}
    np.savez(partial_file, **(watched | own))
    partial_file.replace(file)


def read(file: Path) -> Trained:
    """Read a training that was kept."""
    with np.load(file) as kept:
        parts_of = {name: kept[name] for name in Watched.__dataclass_fields__}
        facts: dict[str, Any] = json.loads(str(kept["facts"]))
        return Trained(Watched(**parts_of), kept["passes"], facts["patients"], kept["train_patients"], facts["rate"])
