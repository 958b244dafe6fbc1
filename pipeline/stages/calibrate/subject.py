"""A set of judged cases as every table sees it, and the settings that were stated before any case was judged."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.evaluation import Judged, Labelling
from pipeline.metrics.operating import Kind
from pipeline.metrics.questions import TOP_LABEL, View, views_of

Floats = NDArray[np.float64]

DIFFERS = "differs"


@dataclass(frozen=True)
class Settings:
    """What was stated before any case was judged: the fields of `calibrate` in params.yaml that bear these names."""

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


@dataclass(frozen=True)
class Subject:
    """A set of judged cases, and what its thresholds may be chosen on.

    Attributes
    ----------
    judged : Judged
        Its cases have `fold`, and a column `group_<name>` for every column by which figures are told apart.
    elsewhere : mapping
        Of each fold the development cases of other patients, forecast by the map that judges the fold.
    labelling : Labelling
    weights : (1 + R, n)
    seed : int
    """

    judged: Judged
    elsewhere: Mapping[str, Judged]
    labelling: Labelling
    weights: Floats
    seed: int

    def views(self, state: str = "calibrated") -> list[View]:
        """Ask the questions of the task."""
        return views_of(getattr(self.judged, state), self.judged.labels, self.labelling.classes)

    def views_elsewhere(self, name: str) -> dict[str, View]:
        """Ask one of the questions of the development cases of each fold."""
        asked = {
            fold: views_of(one.calibrated, one.labels, self.labelling.classes) for fold, one in self.elsewhere.items()
        }
        return {fold: view for fold, views in asked.items() for view in views if view.name == name}

    def groups(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.str_]]:
        """Say of some cases to which group of each column they belong; images of a patient may differ in it."""
        known = self.judged.cases.filter(regex="^group_").replace("", DIFFERS).iloc[rows]
        return {column.removeprefix("group_"): known[column].to_numpy(dtype=str) for column in known}


def asked_of_classes(subject: Subject) -> list[View]:
    """Leave the top label out: nobody acts on whether the model is right."""
    return [view for view in subject.views() if view.name != TOP_LABEL]
