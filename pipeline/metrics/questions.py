"""The yes/no questions by which a classifier of any task is evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.discrimination import Labels

Floats = NDArray[np.float64]

TOP_LABEL = "top label"


@dataclass(frozen=True)
class View:
    """One yes/no question asked of the cases where the answer is known.

    Attributes
    ----------
    name : str
        The class or label that is asked for, or `TOP_LABEL`: is the most probable class the true one?
    prediction : (m,)
        The probability of yes.
    events : (m,) bool
        The true answer.
    rows : (m,) int
        Which of the n cases these are.
    """

    name: str
    prediction: Floats
    events: NDArray[np.bool_]
    rows: NDArray[np.int64]


def views_of(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> list[View]:
    """Ask each question that suits a task.

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int or (n, K) float
        Numbers of classes; or, where each label stands by itself, 1, 0 and NaN for not known.
    classes : sequence of str

    Returns
    -------
    list of View
        Two classes: the last one. More: each against the rest, then the top label. Labels that stand each by itself:
        each one that is known of any case.
    """
    everyone = np.arange(len(probabilities))
    if labels.ndim == 2:
        known = np.isfinite(labels)
        return [
            View(name, probabilities[known[:, c], c], labels[known[:, c], c] == 1, everyone[known[:, c]])
            for c, name in enumerate(classes)
            if known[:, c].any()
        ]
    asked = [1] if len(classes) == 2 else range(len(classes))
    views = [View(classes[c], probabilities[:, c], labels == c, everyone) for c in asked]
    if len(classes) > 2:
        views.append(View(TOP_LABEL, probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, everyone))
    return views


def both_ways(prediction: Floats) -> Floats:
    """Turn the probability of yes (m,) into those of no and yes (m, 2)."""
    return np.stack([1 - prediction, prediction], axis=1)
