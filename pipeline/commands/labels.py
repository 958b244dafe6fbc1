"""Read the labels of scans that a released model has predicted, in the notation of the training labels."""

from collections.abc import Sequence

import numpy as np

from pipeline.imaging.labels import NO_FINDING, SEPARATOR, UNKNOWN, Task, classes_in, flaw_of, targets_of
from pipeline.metrics.discrimination import Labels


def flaw_in(label: str, classes: Sequence[str], several: bool) -> str:
    """Say why a model cannot use a label; "" if it can.

    Parameters
    ----------
    label : str
    classes : sequence of str
        Classes of the model.
    several : bool
        Whether a label may name any number of classes (a multilabel model).

    >>> flaw_in("edema;cyst", ["edema", "mass"], True)
    "'cyst' is no class of this model"
    """
    if not label.strip():
        return "it has no label"
    task: Task = "multilabel" if several else "multiclass"
    strange = [name for name in classes_in([label], task) if name not in classes]
    return flaw_of(label, task) or (f"'{strange[0]}' is no class of this model" if strange else "")


def numbers_of(labels: Sequence[str], classes: Sequence[str], several: bool) -> Labels:
    """Convert valid labels to class indices (n,), or, if multilabel, to 1, 0 and NaN for unknown (n, C)."""
    if several:
        return targets_of(labels, classes, "multilabel").astype(np.float64)
    return np.array([classes.index(label) for label in labels], dtype=np.int64)


def written_as(classes: Sequence[str], several: bool) -> str:
    """Describe the values that the column `label` may have."""
    how = (
        f", joined by {SEPARATOR}, with {UNKNOWN} before a class that is unknown, or '{NO_FINDING}'" if several else ""
    )
    return f"the column label takes {', '.join(classes)}{how}"
