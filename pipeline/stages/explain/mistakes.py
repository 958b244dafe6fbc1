"""The most confident mistakes: which cases a prediction got wrong while it was sure."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.discrimination import Labels

Floats = NDArray[np.float64]
MISTAKES = ["row", "label", "prediction", "asked", "probability"]


def confident_mistakes(probabilities: Floats, labels: Labels, classes: Sequence[str], most: int) -> pd.DataFrame:
    """Find the mistakes whose prediction was given the highest probability.

    Parameters
    ----------
    probabilities : (n, C)
    labels : (n,) int, or (n, C) of 1, 0 and NaN for not known
        Of labels that stand each by itself, each known one of a case may be a mistake: probability at least one half
        though it is not there, or below although it is.
    classes : sequence of str
    most : int

    Returns
    -------
    pandas.DataFrame
        Columns `MISTAKES`, the most confident first: which case, what it is, what was predicted, the number of the
        class or label whose logit was asked, and the probability given to what was predicted.
    """
    rows = (
        _of_labels(probabilities, labels, classes) if labels.ndim == 2 else _of_classes(probabilities, labels, classes)
    )
    table = pd.DataFrame(rows, columns=MISTAKES)
    return table.sort_values("probability", ascending=False, kind="stable").head(most).reset_index(drop=True)


def _of_classes(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> list[tuple[object, ...]]:
    chosen = probabilities.argmax(axis=1)
    return [
        (row, classes[int(labels[row])], classes[chosen[row]], int(chosen[row]), float(probabilities[row, chosen[row]]))
        for row in np.flatnonzero(chosen != labels).tolist()
    ]


def _of_labels(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> list[tuple[object, ...]]:
    said = probabilities >= 0.5
    wrong = ~np.isnan(labels) & (said != (labels == 1))
    words = {True: "{}", False: "no {}"}
    return [
        (
            row,
            words[not said[row, number]].format(classes[number]),
            words[bool(said[row, number])].format(classes[number]),
            number,
            float(max(probabilities[row, number], 1 - probabilities[row, number])),
        )
        for row, number in np.argwhere(wrong).tolist()
    ]
