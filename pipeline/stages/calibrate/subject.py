"""A set of evaluated cases as every table sees it, and the settings that were stated before any case was evaluated."""

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
    """What was stated before any case was evaluated: the fields of `calibrate` in params.yaml that bear these names."""

    bins: int
    thresholds: tuple[float, float]
    sensitivity: float
    specificity: float
    set_coverage: float
    prevalences: tuple[float, ...]
    n_bootstrap: int
    confidence: float

    @property
    def levels(self) -> list[tuple[Kind, float]]:
        """Operating points: a specificity that is fixed, then a sensitivity."""
        return [("specificity", self.specificity), ("sensitivity", self.sensitivity)]


def bootstrap_for(params: Params, *names: str) -> Bootstrap:
    """Give the bootstrap settings of params.yaml with the seed that belongs to these names."""
    seed = seed_for(params.seed, "bootstrap", *names)
    return Bootstrap(params.calibrate.n_bootstrap, params.calibrate.confidence, seed)


@dataclass(frozen=True)
class Subject:
    """A set of evaluated cases, and what its thresholds may be chosen on.

    Attributes
    ----------
    evaluated : EvaluatedCases
        Its cases have `fold`, and a column `group_<name>` for every column by which metrics are told apart.
    elsewhere : mapping
        Of each fold the development cases of other patients, prediction by the map that evaluates the fold.
    labelling : TaskSpec
    weights : (1 + R, n)
    seed : int
    """

    evaluated: EvaluatedCases
    elsewhere: Mapping[str, EvaluatedCases]
    labelling: TaskSpec
    weights: Floats
    seed: int

    def questions(self, state: str = "calibrated") -> list[Question]:
        """Ask the questions of the task."""
        return questions_of(getattr(self.evaluated, state), self.evaluated.labels, self.labelling.classes)

    def questions_elsewhere(self, name: str) -> dict[str, Question]:
        """Ask one of the questions of the development cases of each fold."""
        asked = {
            fold: questions_of(one.calibrated, one.labels, self.labelling.classes)
            for fold, one in self.elsewhere.items()
        }
        return {fold: question for fold, questions in asked.items() for question in questions if question.name == name}

    def groups(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.str_]]:
        """Say of some cases to which group of each column they belong; images of a patient may differ in it."""
        known = self.evaluated.cases.filter(regex="^group_").replace("", DIFFERS).iloc[rows]
        return {column.removeprefix("group_"): known[column].to_numpy(dtype=str) for column in known}


def class_questions(subject: Subject) -> list[Question]:
    """Leave the top label out: nobody acts on whether the model is right."""
    return [question for question in subject.questions() if question.name != TOP_LABEL]
