"""Hold the predictions of the same cases by several experimental arms, each trained on several shares of patients."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.discrimination import Labels
from pipeline.stages.evidence.arms import ADAPTED, IMAGENET, SCRATCH

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Names = NDArray[np.str_]

PROBE, TRAINED = "probe", "trained"
COMPARISONS = {"adaptation": (ADAPTED, IMAGENET), "transfer": (IMAGENET, SCRATCH)}  # the arm, and its reference


class Key(NamedTuple):
    """Identify a training: it used the first `fraction` of the training patients in their `draw`-th random order."""

    recipe: str
    arm: str
    fraction: float
    draw: int


@dataclass(frozen=True)
class Runs:
    """Predictions of the same cases by several arms at several fractions of the training patients.

    Attributes
    ----------
    cases, patients, folds, sites : (n,) str
    labels : (n,) int, or (n, C) with NaN where a label is not known
    probabilities : mapping
        From key to (n, K), or (n, C) for a multilabel task; rows are NaN where a fold was not run.
    labelled : mapping
        From key to the number of labelled training patients, averaged over folds.
    """

    cases: Names
    patients: Names
    folds: Names
    labels: Labels
    sites: Names
    probabilities: Mapping[Key, Floats]
    labelled: Mapping[Key, float]

    def keys_of(self, recipe: str, arm: str) -> list[Key]:
        """List the trainings of an arm with at least one completed fold, the smallest fraction first."""
        own = [key for key in self.probabilities if (key.recipe, key.arm) == (recipe, arm)]
        return sorted(key for key in own if np.isfinite(self.probabilities[key]).any())

    def arms(self) -> list[tuple[str, str]]:
        """List each recipe and arm with a prediction, in the order of their first prediction."""
        named = dict.fromkeys((key.recipe, key.arm) for key in self.probabilities)
        return [(recipe, arm) for recipe, arm in named if self.keys_of(recipe, arm)]

    def evaluated(self, keys: Iterable[Key]) -> Marks:
        """Mark the cases (n,) that all of these trainings predict."""
        each = [np.isfinite(self.probabilities[key]).all(axis=1) for key in keys]
        return np.logical_and.reduce(each) if each else np.zeros(len(self.cases), dtype=np.bool_)

    def counts(self, among: Marks) -> tuple[int, int, int]:
        """Count the cases, patients and folds among some cases (n,)."""
        patients, folds = (len(np.unique(names[among])) for names in (self.patients, self.folds))
        return int(among.sum()), patients, folds


@dataclass(frozen=True)
class Trajectory:
    """The course of a training, epoch by epoch; epoch 0 is the linear probe that it starts from.

    Attributes
    ----------
    arm, fold : str
    passes : (E,)
        Images passed through the whole encoder so far, forward and backward.
    seconds, validation_loss : (E,)
    train_losses : (E, m)
        Log-loss in nats of each training case without augmentation.
    train_patients : (m,) str
    test_losses : (E, t)
        Log-loss of each held-out case.
    test_patients : (t,) str
    """

    arm: str
    fold: str
    passes: Floats
    seconds: Floats
    validation_loss: Floats
    train_losses: Floats
    train_patients: Names
    test_losses: Floats
    test_patients: Names
