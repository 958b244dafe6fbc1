"""Find the most confident errors: cases with a wrong prediction of high confidence."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.discrimination import Labels

Floats = NDArray[np.float64]
ERRORS = ["row", "label", "prediction", "asked", "probability"]


def most_confident_errors(probabilities: Floats, labels: Labels, classes: Sequence[str], most: int) -> pd.DataFrame:
    """Find the wrong predictions of the highest probability.

    Parameters
    ----------
    probabilities : (n, C)
    labels : (n,) int, or (n, C) of 1, 0 and NaN for not known
        In a multilabel task each known label of a case may be an error: a probability of at least one half for an
        absent label, or below one half for a present one.
    classes : sequence of str
    most : int

    Returns
    -------
    pandas.DataFrame
        Columns `ERRORS`, the most confident first: row of the case, true label, predicted label, number of the class or
        label that saliency explains, probability of the prediction.
    """
    rows = (
        _of_labels(probabilities, labels, classes) if labels.ndim == 2 else _of_classes(probabilities, labels, classes)
    )
    table = pd.DataFrame(rows, columns=ERRORS)
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
