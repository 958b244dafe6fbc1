"""What new patients are compared with: the forecasts of development cases by models that were not trained on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

SMALLEST = 1e-12  # of a probability whose logarithm is taken
DIGITS = 6


def reference_of(forecasts: pd.DataFrame, classes: Sequence[str], scans: int, refused: int) -> dict[str, Any]:
    """Keep sorted figures of one scan of each patient, which name nobody.

    Parameters
    ----------
    forecasts : pandas.DataFrame
        Development cases with columns patient, label, ood_score, and probability_0, ... in the order of `classes`.
    classes : sequence of str
    scans, refused : int
        How many scans of the cohort there were, and how many of these could not be read.

    Returns
    -------
    dict
        `patients`; `scans` and `refused`; `forecasts`, by class the sorted probabilities; `ood_score`, sorted;
        `log_loss`, sorted, None where labels stand each by itself.
    """
    first = forecasts.drop_duplicates("patient")
    values = first[[f"probability_{number}" for number in range(len(classes))]].to_numpy()
    known = first["label"].isin(classes).to_numpy()
    true = values[known, first["label"][known].map(list(classes).index).astype(int)]
    return {
        "patients": len(first),
        "scans": scans,
        "refused": refused,
        "forecasts": {name: in_order(values[:, classes.index(name)]) for name in judged_classes(classes)},
        "ood_score": in_order(first["ood_score"]),
        "log_loss": in_order(log_loss(true)) if known.all() else None,
    }


def judged_classes(classes: Sequence[str]) -> Sequence[str]:
    """Name the classes whose forecasts are watched; of two the second one, as the other says the same."""
    return classes[1:] if len(classes) == 2 else classes


def log_loss(probability: Any) -> Any:
    """Give the natural logarithmic loss of the probabilities of what happened (n,)."""
    return -np.log(np.maximum(probability, SMALLEST))


def in_order(values: Any) -> list[float]:
    """Sort and round, so that no row can be told from it."""
    return sorted(np.round(values, DIGITS).tolist())
