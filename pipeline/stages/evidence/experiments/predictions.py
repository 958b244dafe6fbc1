"""What every arm of `evidence` predictions, gathered: by probes always, by trainings as far as the budget goes."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, softmax

from pipeline import runtime
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.predictions import labels_of
from pipeline.stages.evidence.experiments.networks import ADAPTED, IMAGENET, SCRATCH, Arms, NotMeasured
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.experiments.trainings import Trained, Trainings, smaller
from pipeline.stages.evidence.learners.subsets import nested
from pipeline.stages.evidence.statistics.runs import PROBE, TRAINED, Key, Runs, Trajectory

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
WHOLE = 1.0
OF_ARMS = (SCRATCH, IMAGENET, ADAPTED)


@dataclass
class Gathered:
    """Predictions of the cases that some splits evaluate, as they come in.

    Attributes
    ----------
    splits : sequence of Split
        No case is evaluated by two of them.
    why_not : dict
        By recipe and arm: why a prediction is missing.
    """

    splits: Sequence[Split]
    labelling: TaskSpec
    predictions: dict[Key, Floats] = field(default_factory=dict)
    patients: dict[Key, list[int]] = field(default_factory=dict)
    trajectories: list[Trajectory] = field(default_factory=list)
    why_not: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        evaluated = [split.evaluated.assign(fold=split.name) for split in self.splits]
        columns = ["case", "patient", "site", "label", "role", "fold"]
        self.cases = pd.concat([pd.DataFrame(columns=columns, dtype=str), *evaluated], ignore_index=True)

    def add(self, key: Key, split: Split, logits: Floats, patients: int) -> None:
        """Put down what a model of one split predictions, and how many labelled patients it had."""
        shape = (len(self.cases), len(self.labelling.classes))
        here = (self.cases["fold"] == split.name).to_numpy()
        self.predictions.setdefault(key, np.full(shape, np.nan))[here] = as_probabilities(logits, self.labelling)
        self.patients.setdefault(key, []).append(patients)

    def runs(self) -> Runs:
        """Give all of them side by side."""
        cases, patients, folds, sites = (
            self.cases[name].to_numpy(dtype=str) for name in ("case", "patient", "fold", "site")
        )
        labelled = {key: float(np.mean(counts)) for key, counts in self.patients.items()}
        labels = labels_of(self.cases, self.labelling)
        return Runs(cases, patients, folds, labels, sites, self.predictions, labelled)

    def evaluated(self, probabilities: Floats) -> EvaluatedCases:
        """Give the cases with predictions (n, C) of another kind."""
        return EvaluatedCases(
            self.cases, labels_of(self.cases, self.labelling), probabilities, probabilities, calibrators={}
        )


def as_probabilities(logits: Floats, labelling: TaskSpec) -> Floats:
    """Turn logits (n, C) into probabilities."""
    found: Floats = expit(logits) if labelling.task == "multilabel" else softmax(logits, axis=1)
    return found


def probe(arms: Arms, gathered: Gathered, names: Sequence[str], fractions: Sequence[float], draws: int) -> None:
    """Probe the frozen features of the pretrained arms, on nested shares of the training patients."""
    for arm in names:
        for split in runtime.progress(gathered.splits, f"probe {arm}"):
            try:
                for key, rows in subsets(arms, split, PROBE, arm, fractions, draws):
                    seed = seed_for(arms.params.seed, "evidence", split.name, key.draw)
                    patients = split.labelled["patient"].iloc[rows].nunique()
                    gathered.add(key, split, arms.probed(arm, split, rows, seed), patients)
            except NotMeasured as error:
                gathered.why_not[PROBE, arm] = str(error)
                break


def subsets(
    arms: Arms, split: Split, recipe: str, arm: str, fractions: Sequence[float], draws: int
) -> Iterable[tuple[Key, Rows]]:
    """Name the shares of the labelled cases (m,) to learn from: several draws of the small ones, one of all."""
    targets, patients = arms.targets(split.labelled).numpy(), split.labelled["patient"].to_numpy(dtype=str)
    yield Key(recipe, arm, WHOLE, 0), np.arange(len(patients))
    for draw in range(draws):
        seed = seed_for(arms.params.seed, "evidence", split.name, draw)
        for fraction, rows in nested(targets, patients, fractions, seed).items():
            yield Key(recipe, arm, fraction, draw), rows


def train(school: Trainings, folds: Gathered, others: Gathered, fractions: Sequence[float]) -> None:
    """Train every arm as far as the budget goes: on all cases of each fold, elsewhere, then on smaller shares.

    What is left is shared evenly among the trainings from scratch that are still to come in each of these parts.
    """
    train_all(school, folds, OF_ARMS, WHOLE)
    train_all(school, others, (SCRATCH, IMAGENET), WHOLE)
    for fraction in sorted(fractions):
        train_all(school, folds, OF_ARMS, fraction)


def train_all(trainings: Trainings, gathered: Gathered, names: Sequence[str], fraction: float) -> None:
    """Train arms on one share of the labelled patients of every split."""
    for number, split in enumerate(runtime.progress(gathered.splits, f"train on {fraction:.0%}")):
        for arm in names:
            try:
                some = split if fraction == WHOLE else smaller(trainings.arms, split, fraction, draw=0)
                trained = trainings.trained(arm, some, trainings.left / (len(gathered.splits) - number))
            except (NotMeasured, FloatingPointError) as error:
                log.info("evidence, %s, %s: not measured: %s", split.name, arm, error)
                gathered.why_not.setdefault((TRAINED, arm), str(error))
                continue
            gathered.add(Key(TRAINED, arm, fraction, 0), split, trained.watched.logits, trained.patients)
            if fraction == WHOLE:
                gathered.trajectories.append(trajectory(arm, split, trained))


def trajectory(arm: str, split: Split, trained: Trained) -> Trajectory:
    """Give a training as it is evaluated."""
    watched = trained.watched
    return Trajectory(
        arm=arm,
        fold=split.name,
        passes=trained.passes,
        seconds=np.array(watched.seconds),
        validation_loss=np.array(watched.validation_loss),
        train_losses=np.array(watched.train_losses),
        train_patients=trained.train_patients,
        test_losses=np.array(watched.test_losses),
        test_patients=split.evaluated["patient"].to_numpy(dtype=str),
    )
