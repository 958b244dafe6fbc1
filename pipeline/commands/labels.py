"""Labels of scans that a released model is used on: written as those that it was trained on."""

from collections.abc import Sequence

import numpy as np

from pipeline.imaging.labels import NO_FINDING, SEPARATOR, UNKNOWN, Task, classes_in, flaw_of, targets_of
from pipeline.metrics.discrimination import Labels


def flaw_in(label: str, classes: Sequence[str], several: bool) -> str:
    """Say why a label says nothing to a model, or "" where it does.

    Parameters
    ----------
    label : str
    classes : sequence of str
        That the model knows.
    several : bool
        Whether they stand each by itself, so that a label may name any number of them.

    >>> flaw_in("edema;cyst", ["edema", "mass"], True)
    "'cyst' is no class of this model"
    """
    if not label.strip():
        return "it has no label"
    task: Task = "multilabel" if several else "multiclass"
    strange = [name for name in classes_in([label], task) if name not in classes]
    return flaw_of(label, task) or (f"'{strange[0]}' is no class of this model" if strange else "")


def numbers_of(labels: Sequence[str], classes: Sequence[str], several: bool) -> Labels:
    """Read labels without a flaw: numbers of classes (n,), or 1, 0 and NaN for not known (n, C)."""
    if several:
        return targets_of(labels, classes, "multilabel").astype(np.float64)
    return np.array([classes.index(label) for label in labels], dtype=np.int64)


def written_as(classes: Sequence[str], several: bool) -> str:
    """Tell what the column `label` takes."""
    how = f", joined by {SEPARATOR}, {UNKNOWN} before what is not known, or '{NO_FINDING}'" if several else ""
    return f"the column label takes {', '.join(classes)}{how}"
