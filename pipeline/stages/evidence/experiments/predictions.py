"""Gather the predictions of every experimental arm: by probes always, by trainings as far as the budget allows."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, softmax

from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec
from pipeline.progress import activity, progress
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.predictions import labels_of
from pipeline.stages.evidence.arms import ADAPTED, IMAGENET, SCRATCH
from pipeline.stages.evidence.experiments.networks import Arms, NotMeasured
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.experiments.trainings import Trained, Trainings, smaller
from pipeline.stages.evidence.learners.subsets import nested
from pipeline.stages.evidence.statistics.runs import PROBE, TRAINED, Key, Runs, Trajectory

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
WHOLE = 1.0
ALL_ARMS = (SCRATCH, IMAGENET, ADAPTED)


@dataclass
class Gathered:
    """Predictions of the evaluated cases of several splits, added one by one.

    Attributes
    ----------
    splits : sequence of Split
        Each case is evaluated by one split at most.
    spec : TaskSpec
    predictions : dict
        From key to probabilities (n, C) of all evaluated cases; NaN where a split was not run.
    patients : dict
        From key to the number of labelled training patients of each split.
    trajectories : list of Trajectory
    why_not : dict
        From recipe and arm to the reason why a prediction is missing.
    """

    splits: Sequence[Split]
    spec: TaskSpec
    predictions: dict[Key, Floats] = field(default_factory=dict)
    patients: dict[Key, list[int]] = field(default_factory=dict)
    trajectories: list[Trajectory] = field(default_factory=list)
    why_not: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        evaluated = [split.evaluated.assign(fold=split.name) for split in self.splits]
        columns = ["case", "patient", "site", "label", "role", "fold"]
        self.cases = pd.concat([pd.DataFrame(columns=columns, dtype=str), *evaluated], ignore_index=True)

    def add(self, key: Key, split: Split, logits: Floats, patients: int) -> None:
        """Add the logits of one split's model, and the number of its labelled training patients."""
        shape = (len(self.cases), len(self.spec.classes))
        here = (self.cases["fold"] == split.name).to_numpy()
        self.predictions.setdefault(key, np.full(shape, np.nan))[here] = as_probabilities(logits, self.spec)
        self.patients.setdefault(key, []).append(patients)

    def runs(self) -> Runs:
        """Collect all predictions for the statistics."""
        return Runs(
            cases=self.cases["case"].to_numpy(dtype=str),
            patients=self.cases["patient"].to_numpy(dtype=str),
            folds=self.cases["fold"].to_numpy(dtype=str),
            labels=labels_of(self.cases, self.spec),
            sites=self.cases["site"].to_numpy(dtype=str),
            probabilities=self.predictions,
            labelled={key: float(np.mean(counts)) for key, counts in self.patients.items()},
        )

    def evaluated(self, probabilities: Floats) -> EvaluatedCases:
        """Combine the evaluated cases with other predictions (n, C)."""
        labels = labels_of(self.cases, self.spec)
        return EvaluatedCases(self.cases, labels, probabilities, probabilities, calibrators={})


def as_probabilities(logits: Floats, spec: TaskSpec) -> Floats:
    """Turn logits (n, C) into probabilities."""
    found: Floats = expit(logits) if spec.task == "multilabel" else softmax(logits, axis=1)
    return found


def probe(arms: Arms, gathered: Gathered, names: Sequence[str], *, fractions: Sequence[float], draws: int) -> None:
    """Probe the frozen features of the pretrained arms, on nested shares of the training patients."""
    for arm in names:
        for split in progress(gathered.splits, f"probe {arm}"):
            try:
                for fraction, draw, rows in subsets(arms, split, fractions, draws):
                    seed = seed_for(arms.params.seed, "evidence", split.name, draw)
                    patients = split.labelled["patient"].iloc[rows].nunique()
                    gathered.add(Key(PROBE, arm, fraction, draw), split, arms.probed(arm, split, rows, seed), patients)
            except NotMeasured as error:
                gathered.why_not[PROBE, arm] = str(error)
                break


def subsets(arms: Arms, split: Split, fractions: Sequence[float], draws: int) -> Iterable[tuple[float, int, Rows]]:
    """Yield fraction, draw and rows of the labelled cases to train on: all of them, then draws of smaller fractions."""
    targets, patients = arms.targets(split.labelled).numpy(), split.labelled["patient"].to_numpy(dtype=str)
    yield WHOLE, 0, np.arange(len(patients))
    for draw in range(draws):
        seed = seed_for(arms.params.seed, "evidence", split.name, draw)
        for fraction, rows in nested(targets, patients, fractions, seed).items():
            yield fraction, draw, rows


def train(trainings: Trainings, folds: Gathered, others: Gathered, fractions: Sequence[float]) -> None:
    """Train every arm within the budget: on all cases of each fold, on the other splits, then on smaller fractions.

    In each of these parts the remaining budget is shared evenly among the remaining trainings from scratch.
    """
    train_all(trainings, folds, ALL_ARMS, WHOLE)
    train_all(trainings, others, (SCRATCH, IMAGENET), WHOLE)
    for fraction in sorted(fractions):
        train_all(trainings, folds, ALL_ARMS, fraction)


def train_all(trainings: Trainings, gathered: Gathered, names: Sequence[str], fraction: float) -> None:
    """Train arms on one fraction of the labelled patients of every split."""
    for number, split in enumerate(progress(gathered.splits, f"train on {fraction:.0%}")):
        for arm in names:
            activity(f"training {arm} on {fraction:.0%} of {split.name}")
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
    """Convert a training to the form that the statistics use."""
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
