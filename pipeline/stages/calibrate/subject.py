"""The set of evaluated cases that the tables describe, and the settings declared before any case is evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec
from pipeline.metrics.operating import Kind
from pipeline.metrics.questions import TOP_LABEL, Question, questions_of
from pipeline.schema import Params
from pipeline.seeds import seed_for

Floats = NDArray[np.float64]

DIFFERS = "differs"


@dataclass(frozen=True)
class Settings:
    """Settings of the tables: the fields of the same name in the section `calibrate` of params.yaml."""

    bins: int
    thresholds: tuple[float, float]
    sensitivity: float
    specificity: float
    set_coverage: float
    prevalences: tuple[float, ...]
    n_bootstrap: int
    confidence: float
    baseline: tuple[str, ...]

    @property
    def levels(self) -> list[tuple[Kind, float]]:
        """List the operating points: the fixed specificity, then the fixed sensitivity."""
        return [("specificity", self.specificity), ("sensitivity", self.sensitivity)]


def bootstrap_for(params: Params, *names: str) -> Bootstrap:
    """Combine the bootstrap settings of params.yaml with the seed derived from these names."""
    seed = seed_for(params.seed, "bootstrap", *names)
    return Bootstrap(params.calibrate.n_bootstrap, params.calibrate.confidence, seed)


@dataclass(frozen=True)
class Subject:
    """A set of evaluated cases, and the development cases on which thresholds may be chosen.

    Attributes
    ----------
    evaluated : EvaluatedCases
        The table of cases has a column `fold`, and a column `group_<name>` for every subgroup column.
    elsewhere : mapping
        Fold to development cases of other patients, with predictions of the calibrator that evaluates the fold.
    spec : TaskSpec
    weights : (1 + R, n)
    seed : int
    """

    evaluated: EvaluatedCases
    elsewhere: Mapping[str, EvaluatedCases]
    spec: TaskSpec
    weights: Floats
    seed: int

    def questions(self, state: str = "calibrated") -> list[Question]:
        """List the questions of the task."""
        return questions_of(getattr(self.evaluated, state), self.evaluated.labels, self.spec.classes)

    def questions_elsewhere(self, name: str) -> dict[str, Question]:
        """Give one question for the development cases of each fold."""
        return {
            fold: question
            for fold, cases in self.elsewhere.items()
            for question in questions_of(cases.calibrated, cases.labels, self.spec.classes)
            if question.name == name
        }

    def groups(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.str_]]:
        """Give for each column the group of some cases; `DIFFERS` if the images of a patient are in several groups."""
        known = self.evaluated.cases.filter(regex="^group_").replace("", DIFFERS).iloc[rows]
        return {column.removeprefix("group_"): known[column].to_numpy(dtype=str) for column in known}


def class_questions(subject: Subject) -> list[Question]:
    """List the questions except the top label, on which nobody acts."""
    return [question for question in subject.questions() if question.name != TOP_LABEL]
