"""Turn probabilities into conformal prediction sets, and find those whose confidence is too low for an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
    """Thresholds of one question: which class, or whether one label is present.

    Attributes
    ----------
    label : str
        The label of a multilabel task; empty where the classes exclude each other.
    answers : tuple of str
        The classes, or "absent" and "present".
    sets : Thresholds
        Conformal thresholds of the answers.
    min_confidence : float
        The model abstains if the largest probability is below this one.
    """

    label: str
    answers: tuple[str, ...]
    sets: Thresholds
    min_confidence: float

    def members(self, prediction: Floats) -> list[str]:
        """Name the answers in the prediction set of one case (m,); an answer without a threshold is always in it."""
        [marks] = sets_of(prediction[None], self.sets)
        return [name for name, mark in zip(self.answers, marks, strict=True) if mark]

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            "label": self.label,
            "answers": list(self.answers),
            "sets": self.sets.as_json(),
            "min_confidence": self.min_confidence,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Rule":
        """Read the values that `as_json` wrote."""
        sets, answers = Thresholds.from_json(values["sets"]), tuple(values["answers"])
        return cls(values["label"], answers, sets, values["min_confidence"])


def fit_rules(
    probabilities: Floats,
    labels: Labels,
    patients: Names,
    classes: Sequence[str],
    *,
    coverage: float,
    answered: float,
) -> list[Rule]:
    """Set the thresholds on cases that the model was not trained on.

    Parameters
    ----------
    probabilities : (n, K)
        By the calibrator that is released.
    labels : (n,) int or (n, K) float
        Numbers of classes; for a multilabel task 1, 0, and NaN for not known.
    patients : (n,)
    classes : sequence of str
    coverage : float
        Share of patients whose set holds the true class; of the patients of each class, if each class has enough.
    answered : float
        Share of cases that are answered.

    Returns
    -------
    list of Rule
        One; for a multilabel task one for each label that is known of any case.
    """
    fit = partial(_fit_rule, coverage=coverage, answered=answered)
    if labels.ndim == 1:
        return [fit(probabilities, labels.astype(np.int64), patients, answers=tuple(classes))]
    rules = []
    for number, label in enumerate(classes):
        known = np.isfinite(labels[:, number])
        if known.any():
            pairs, truth = both_ways(probabilities[known, number]), labels[known, number].astype(np.int64)
            rules.append(fit(pairs, truth, patients[known], answers=ABSENT_OR_PRESENT, label=label))
    return rules


def _fit_rule(
    probabilities: Floats,
    truth: Ints,
    patients: Names,
    *,
    answers: tuple[str, ...],
    coverage: float,
    answered: float,
    label: str = "",
) -> Rule:
    sets = _fit_sets(probabilities, truth, patients, alpha=round(1 - coverage, 9))
    return Rule(label, answers, sets, abstention_threshold(probabilities.max(axis=1), answered))


def _fit_sets(probabilities: Floats, truth: Ints, patients: Names, alpha: float) -> Thresholds:
    counts = [len(set(patients[truth == number])) for number in range(probabilities.shape[1])]
    by: By = "class" if min(counts) >= fewest(alpha) else None
    return conformal_thresholds(probabilities, truth, patients, alpha=alpha, by=by)


def sets_at_site(
    rule: Rule, probabilities: Floats, labels: Labels, patients: Names, *, classes: Sequence[str]
) -> Thresholds | None:
    """Refit the prediction sets of a rule to labelled patients of one site, for whom they then keep their promise.

    Parameters
    ----------
    rule : Rule
    probabilities, labels, patients, classes
        As for `fit_rules`, of patients on whom nothing was fitted.

    Returns
    -------
    Thresholds or None
        None if the patients are too few for the promise.
    """
    values, truth, known = probabilities, labels, np.ones(len(labels), dtype=bool)
    if rule.label:
        number = list(classes).index(rule.label)
        values, truth, known = both_ways(probabilities[:, number]), labels[:, number], np.isfinite(labels[:, number])
    if len(set(patients[known])) < fewest(rule.sets.alpha):
        return None
    return _fit_sets(values[known], truth[known].astype(np.int64), patients[known], rule.sets.alpha)


def with_sets(rules: Sequence[Rule], sets: Mapping[str, Thresholds]) -> list[Rule]:
    """Replace the prediction sets of rules, by label; "" names the rule of classes that exclude each other."""
    return [replace(rule, sets=sets.get(rule.label, rule.sets)) for rule in rules]


def decide(rules: Sequence[Rule], probabilities: Floats, classes: Sequence[str]) -> tuple[str, list[str]]:
    """Give the prediction set of one case in words, and every confidence that is too low.

    Parameters
    ----------
    rules : sequence of Rule
    probabilities : (K,)
    classes : sequence of str

    Returns
    -------
    str, list of str
        The set: "control or lesion", "none", or "effusion: absent; mass: absent or present". The low confidences:
        "0.512 is below 0.700".
    """
    sets, unsure = [], []
    for rule in rules:
        values = probabilities
        if rule.label:
            values = both_ways(probabilities[[list(classes).index(rule.label)]])[0]
        start = f"{rule.label}: " if rule.label else ""
        sets.append(start + (" or ".join(rule.members(values)) or "none"))
        if values.max() < rule.min_confidence:
            unsure.append(f"{start}{below(float(values.max()), rule.min_confidence)}")
    return "; ".join(sets), unsure


def below(value: float, limit: float) -> str:
    """Say that a value is below a limit, with as many digits as tell them apart, three or more.

    >>> below(0.5, 0.7), below(0.75492, 0.75494)
    ('0.500 is below 0.700', '0.75492 is below 0.75494')
    """
    digits = next((n for n in range(3, 17) if f"{value:.{n}f}" != f"{limit:.{n}f}"), 17)
    return f"{value:.{digits}f} is below {limit:.{digits}f}"
