"""The yes/no questions on which a classifier of any task is evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.discrimination import Labels

Floats = NDArray[np.float64]

TOP_LABEL = "top label"


@dataclass(frozen=True)
class Question:
    """One yes/no question, with predictions and answers for the cases whose answer is known.

    Attributes
    ----------
    name : str
        The class or label in question, or `TOP_LABEL`: is the most probable class the true one?
    prediction : (m,)
        Predicted probability of yes.
    events : (m,) bool
        True answers.
    rows : (m,) int
        Indices of these cases among the n cases.
    """

    name: str
    prediction: Floats
    events: NDArray[np.bool_]
    rows: NDArray[np.int64]


def questions_of(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> list[Question]:
    """List the questions that suit a task.

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int or (n, K) float
        Class numbers; of a multilabel task 1, 0, and NaN for not known.
    classes : sequence of str

    Returns
    -------
    list of Question
        Two classes: the last one. More: each class against the rest, then the top label. Multilabel: each label that
        is known for at least one case.
    """
    everyone = np.arange(len(probabilities))
    if labels.ndim == 2:
        known = np.isfinite(labels)
        return [
            Question(name, probabilities[known[:, c], c], labels[known[:, c], c] == 1, everyone[known[:, c]])
            for c, name in enumerate(classes)
            if known[:, c].any()
        ]
    asked = [1] if len(classes) == 2 else range(len(classes))
    questions = [Question(classes[c], probabilities[:, c], labels == c, everyone) for c in asked]
    if len(classes) > 2:
        correct = probabilities.argmax(axis=1) == labels
        questions.append(Question(TOP_LABEL, probabilities.max(axis=1), correct, everyone))
    return questions


def both_ways(prediction: Floats) -> Floats:
    """Turn the probability of yes (m,) into the probabilities of no and yes (m, 2)."""
    return np.stack([1 - prediction, prediction], axis=1)
