"""What a released model answers beside its probabilities: a set of classes, and whether it would rather not say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.conformal import (
    ABSENT_OR_PRESENT,
    By,
    Thresholds,
    conformal_thresholds,
    fewest,
    sets_of,
)
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.questions import both_ways
from pipeline.metrics.selective import abstention_threshold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Names = NDArray[np.str_]


@dataclass(frozen=True)
class Rule:
    """How one question is answered.

    Attributes
    ----------
    label : str
        Which label is asked for; empty where the classes exclude each other.
    answers : tuple of str
        The classes, or "absent" and "present".
    sets : Thresholds
        Which of them stay in the set.
    sure : float
        The lowest probability of an answer that is given.
    """

    label: str
    answers: tuple[str, ...]
    sets: Thresholds
    sure: float

    def members(self, prediction: Floats) -> list[str]:
        """Name the answers (m) that the set of one case holds; a promise needs a threshold, without one all stay."""
        [marks] = sets_of(prediction[None], self.sets)
        return [name for name, mark in zip(self.answers, marks, strict=True) if mark]

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {"label": self.label, "answers": list(self.answers), "sets": self.sets.as_json(), "sure": self.sure}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Rule":
        """Read what `as_json` gave."""
        return cls(values["label"], tuple(values["answers"]), Thresholds.from_json(values["sets"]), values["sure"])


def fit_rules(
    probabilities: Floats, labels: Labels, patients: Names, classes: Sequence[str], coverage: float, answered: float
) -> list[Rule]:
    """Set the thresholds on cases that the model was not trained on.

    Parameters
    ----------
    probabilities : (n, K)
        By the map that is released.
    labels : (n,) int or (n, K) float
        Numbers of classes; or, of labels that stand each by itself, 1, 0 and NaN for not known.
    patients : (n,)
    classes : sequence of str
    coverage : float
        Share of patients whose set holds the true class: of each class by itself where each has patients enough.
    answered : float
        Share of answers that are given.

    Returns
    -------
    list of Rule
        One; of labels that stand each by itself one for each that is known of any case.
    """
    if labels.ndim == 1:
        whole = labels.astype(np.int64)
        return [_rule("", tuple(classes), probabilities, whole, patients, coverage, answered)]
    rules = []
    for number, label in enumerate(classes):
        known = np.isfinite(labels[:, number])
        if known.any():
            prediction, truth = both_ways(probabilities[known, number]), labels[known, number].astype(np.int64)
            rules.append(_rule(label, ABSENT_OR_PRESENT, prediction, truth, patients[known], coverage, answered))
    return rules


def _rule(
    label: str,
    answers: tuple[str, ...],
    prediction: Floats,
    truth: Ints,
    patients: Names,
    coverage: float,
    answered: float,
) -> Rule:
    alpha = round(1 - coverage, 9)
    each = [len(set(patients[truth == number])) for number in range(len(answers))]
    by: By = "class" if min(each) >= fewest(alpha) else None
    sets = conformal_thresholds(prediction, truth, patients, alpha, by)
    return Rule(label, answers, sets, abstention_threshold(prediction.max(axis=1), answered))


def told(rules: Sequence[Rule], probabilities: Floats, classes: Sequence[str]) -> tuple[str, list[str]]:
    """Say the set of one case in words, and of which answers the model is not sure enough.

    Parameters
    ----------
    rules : sequence of Rule
    probabilities : (K,)
    classes : sequence of str

    Returns
    -------
    str, list of str
        As "control or lesion", "none", or "effusion: absent; mass: absent or present".
    """
    sets, unsure = [], []
    for rule in rules:
        prediction = probabilities
        if rule.label:
            prediction = both_ways(probabilities[[list(classes).index(rule.label)]])[0]
        start = f"{rule.label}: " if rule.label else ""
        sets.append(start + (" or ".join(rule.members(prediction)) or "none"))
        if prediction.max() < rule.sure:
            unsure.append(f"{start}{prediction.max():.3f} is below {rule.sure:.3f}")
    return "; ".join(sets), unsure
