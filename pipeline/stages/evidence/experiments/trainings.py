"""Train the experimental arms within a budget, and store each training so that a changed metric retrains nothing."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import cache, paths, runtime
from pipeline.digests import read_sealed, write_sealed
from pipeline.imaging.geometry import REFERENCE_SIZE
from pipeline.learning.models.probe import parts
from pipeline.learning.training.cases import FrozenCases, WholeCases
from pipeline.learning.training.costs import passes_of_epoch, shares_of
from pipeline.learning.training.finetuning import Setting
from pipeline.learning.training.recipe import Recipe
from pipeline.learning.training.strategies import EVERYTHING, STRATEGIES, Strategy
from pipeline.paths import Role
from pipeline.seeds import seed_for
from pipeline.stages.evidence.arms import ADAPTED, SCRATCH
from pipeline.stages.evidence.experiments.networks import Arms, NotMeasured, training_code
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
from pipeline.stages.finetune.presets import augmentations_of, views_of

log = logging.getLogger(__name__)

EVERY_STAGE = Strategy(stages=EVERYTHING)
VALIDATION_PARTS = 5  # one of five parts of the patients of a smaller fraction stops the training
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes
    ----------
    watched : Watched
    passes : (E,)
        Reference images passed through the whole encoder until the end of each epoch, including the probe.
    patients : int
        Labelled training and validation patients.
    train_patients : (n,) str
        Patient of each training case.
    rate : float
        The learning rate.
    """

    watched: Watched
    passes: Floats
    patients: int
    train_patients: NDArray[np.str_]
    rate: float


class Trainings:
    """Trains arms on splits and counts the cost.

    Parameters
    ----------
    arms : Arms
    budget : float
        Available passes of a reference image through the encoder.
    """

    def __init__(self, arms: Arms, budget: float) -> None:
        self.arms, self.left = arms, budget
        self.settings = arms.params.finetune.model_copy(update={"strategy": "lp_ft"})
        self.recipe = replace(recipe_of(self.settings), average="none")
        self.shares = shares_of(arms.start().encoder, arms.geometry.channels)
        self.rates: dict[str, float] = {}

    def trained(self, arm: str, split: Split, allowed: float) -> Trained:
        """Train an arm on all labelled cases of a split, or read the stored training.

        Parameters
        ----------
        allowed : float
            Passes that a training from scratch may take, including the search for its rate. The other arms follow
            their recipe, which takes a fraction of that.

        Raises
        ------
        NotMeasured
            If the budget is spent, or does not allow as many epochs from scratch as the other arms may take.
        """
        epochs = self.epochs_of(arm, split, allowed)
        file = self.kept(arm, split, epochs)
        found = read(file)
        if found is None:
            found = self._train(arm, split, epochs)
            write(found, file)
        self.left -= found.passes[-1]
        if arm == SCRATCH:
            self.left -= self.cost_of_search(split)
            self.rates[split.name] = found.rate
        return found

    def epochs_of(self, arm: str, split: Split, allowed: float) -> int:
        """Compute the number of epochs that a training may take."""
        if arm != SCRATCH:
            self.refuse(self.passes(arm, split, self.recipe.patience)[-1])
            return self.recipe.epochs
        free = min(allowed, self.left) - self.cost_of_search(split) - self.passes(arm, split, 0)[-1]
        epochs = int(free // self.epoch(arm, split))
        if epochs < self.recipe.epochs:
            raise NotMeasured(
                f"evidence.budget allows {max(epochs, 0)} epochs from scratch in {split.name}, fewer than the "
                f"{self.recipe.epochs} of the other arms; raise evidence.budget"
            )
        return min(epochs, LONGER * self.recipe.epochs)

    def refuse(self, least: float) -> None:
        """Refuse a training that the remaining budget cannot finish."""
        if least > self.left:
            raise NotMeasured(
                f"evidence.budget has {max(self.left, 0):.0f} image passes left, but the training needs {least:.0f}"
            )

    def epoch(self, arm: str, split: Split) -> float:
        """Count the passes of an epoch."""
        first = 0 if arm == SCRATCH else len(self.shares) - self.trained_stages
        train, validation = self.counts(split)
        return self.scale * passes_of_epoch(
            self.shares, first=first, trained=len(self.shares) - first, train=train, validation=validation
        )

    def passes(self, arm: str, split: Split, epochs: int) -> Floats:
        """Count the passes until the end of each epoch (1 + epochs,); the probe runs every view once."""
        train, validation = self.counts(split)
        views = 1 if arm == SCRATCH else 1 + views_of(self.settings) + ("mirror" in augmentations_of(self.settings))
        statistics = train + validation if arm == SCRATCH else 0
        start = self.scale * (views * train + validation + statistics)
        return np.asarray(start + self.epoch(arm, split) * np.arange(epochs + 1), dtype=np.float64)

    def counts(self, split: Split) -> tuple[int, int]:
        """Count the training images and the validation images."""
        role, instances = split.cases["role"], self.arms.geometry.slices
        return int((role == Role.TRAIN).sum()) * instances, int((role == Role.VALIDATION).sum()) * instances

    @property
    def scale(self) -> float:
        """Cost of one of these images, in passes of the reference image."""
        return (self.arms.geometry.image_size / REFERENCE_SIZE) ** 2

    @property
    def trained_stages(self) -> int:
        """Number of stages that are trained in a pretrained encoder."""
        return STRATEGIES["lp_ft"].recipe(self.recipe, len(self.shares)).trainable_stages

    def cost_of_search(self, split: Split) -> float:
        """Count the passes of the search for a rate; 0 if the rate is already known."""
        return 0.0 if split.name in self.rates else passes_of_search(self.epoch(SCRATCH, split))

    def rate(self, split: Split) -> float:
        """Choose the learning rate from scratch on the labelled cases of the split alone, or read the stored choice."""
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
        return Trained(
            watched=watched,
            passes=passes,
            patients=split.labelled["patient"].nunique(),
            train_patients=learned,
            rate=recipe.learning_rate,
        )

    def _watch(self, arm: str, split: Split, recipe: Recipe) -> Watched:
        arms = self.arms
        network = arms.network(arm, split)
        if network.site_values.sites:
            raise NotMeasured("the encoder is not fine-tuned, because adaptation gave each site its own statistics")
        strategy = EVERY_STAGE if arm == SCRATCH else STRATEGIES["lp_ft"]
        change = {"strategy": "full", "views": 0} if arm == SCRATCH else {}
        settings = self.settings.model_copy(update=change)
        label, task = f"{arm}, {split.name}", arms.facts["task"]
        labelled = labelled_cases(network, split.cases, arms.views, facts=arms.facts, settings=settings, label=label)
        targets = arms.targets(split.evaluated)
        evaluated: FrozenCases | WholeCases
        if arm == SCRATCH:
            evaluated = whole_cases(network, split.evaluated, targets, arms.geometry)
        else:
            first = labelled.train.first
            maps, pooled = frozen_stages(network, split.evaluated, arms.views, first=first, count=0, label=label)
            evaluated = FrozenCases(maps, pooled, targets, first)
        seed = seed_for(arms.params.seed, "finetune", split.name)
        setting = Setting(task=task, recipe=recipe, accelerator=arms.accelerator, seed=seed, prefetch=runtime.prefetch)
        alignment = partial(
            alignment_of, network, split.cases, arms.views, task=task, params=arms.params, fold=split.name
        )
        aligned = alignment if arm == ADAPTED else None
        return watch(network, strategy, labelled, setting, evaluated=evaluated, alignment=aligned)

    def kept(self, arm: str, split: Split, epochs: int) -> Path:
        """Name the file of a training by everything that it depends on; metrics are not included."""
        params = self.arms.params
        of_fold = (paths.adapted_encoder, paths.adapted_sites, paths.adaptation) if arm == ADAPTED else ()
        files = (paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX, *(name(split.name) for name in of_fold))
        settings = (arm, epochs, params.seed, params.adapt, params.finetune, self.arms.made_of, torch.__version__)
        name = cache.fingerprint(training_code(), files, *settings, split.cases.to_csv())[:32]
        return paths.SCRATCH / "evidence" / f"{name}.npz"


def smaller(arms: Arms, split: Split, share: float, draw: int) -> Split:
    """Restrict a split to a fraction of its labelled patients, with a new choice of validation patients.

    Raises
    ------
    NotMeasured
        If a class has too few patients for that.
    """
    labelled = split.labelled
    targets, patients = arms.targets(labelled).numpy(), labelled["patient"].to_numpy(dtype=str)
    task, seed = arms.facts["task"], seed_for(arms.params.seed, "evidence", split.name, draw)
    rows = nested(targets, patients, [share], seed)[share]
    assigned = parts(targets[rows], patients[rows], most=VALIDATION_PARTS, seed=seed, task=task)
    if not assigned:
        raise NotMeasured(
            f"in {split.name}, {share:.0%} of the patients leave some class with too few for training and validation"
        )
    names = labelled["case"].to_numpy()[rows]
    return split.only(names, names[assigned[0][1]])


def write(trained: Trained, file: Path) -> None:
    """Write a training atomically, with its hash."""
    watched: dict[str, Any] = {name: np.array(value) for name, value in asdict(trained.watched).items()}
    facts = {"patients": trained.patients, "rate": trained.rate}
    own = {"passes": trained.passes, "train_patients": trained.train_patients, "facts": np.array(json.dumps(facts))}
    stream = BytesIO()
    np.savez(stream, **(watched | own))
    write_sealed(stream.getvalue(), file)


def read(file: Path) -> Trained | None:
    """Read a stored training; None if there is none, or it was damaged."""
    content = read_sealed(file)
    if content is None:
        return None
    with np.load(BytesIO(content)) as kept:
        parts_of = {name: kept[name] for name in Watched.__dataclass_fields__}
        facts: dict[str, Any] = json.loads(str(kept["facts"]))
        return Trained(
            watched=Watched(**parts_of),
            passes=kept["passes"],
            patients=facts["patients"],
            train_patients=kept["train_patients"],
            rate=facts["rate"],
        )
