"""What the column `label` of a cohort says, as numbers: a class, a grade, or any number of findings."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["multiclass", "ordinal", "multilabel"]
SEPARATOR = ";"
UNKNOWN = "?"
NO_FINDING = "no finding"  # looked for and not there; an empty text is a case that nobody has looked at


def targets_of(labels: Sequence[str], classes: Sequence[str], task: Task) -> NDArray[np.float32]:
    """Turn labels into rows of numbers: 1 for what is there, 0 for what is not, NaN for what is not known.

    Parameters
    ----------
    labels : sequence of str
        One class, or, where the task is multilabel, several joined by ``;``, ``?name`` for what is not known of a
        case and ``no finding`` for a case without any. Empty where a case has no label at all.
    classes : sequence of str
        In the order of the columns.
    task : {"multiclass", "ordinal", "multilabel"}
        Of the first two a row is one-hot.

    Returns
    -------
    (n, n_classes) float32 array
        Rows of cases without a label are NaN throughout.

    Raises
    ------
    ValueError
        If a label is none of the classes; the message names it.

    >>> targets_of(["edema;?mass", "no finding", ""], ["edema", "mass"], "multilabel")
    array([[ 1., nan],
           [ 0.,  0.],
           [nan, nan]], dtype=float32)
    """
    column = {name: number for number, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, label in zip(targets, labels, strict=True):
        for name in names_in(label, task):
            bare = _bare(name, task)
            if bare not in column:
                raise ValueError(f"the label '{bare}' is none of {', '.join(classes)}")
            row[column[bare]] = 1.0 if bare == name else np.nan
        if label == "":
            row[:] = np.nan
    return targets


def names_in(label: str, task: Task) -> list[str]:
    """Take a label apart into the names in it, ``?`` kept.

    >>> names_in("edema; ?mass", "multilabel")
    ['edema', '?mass']
    """
    if task != "multilabel":
        return [label] if label else []
    return [name.strip() for name in label.split(SEPARATOR) if name.strip() not in ("", NO_FINDING)]


def classes_in(labels: Sequence[str], task: Task) -> list[str]:
    """List the classes that labels speak of, known or not, in alphabetical order.

    >>> classes_in(["mass;?edema", "no finding", ""], "multilabel")
    ['edema', 'mass']
    """
    names = {_bare(name, task) for label in labels for name in names_in(label, task)}
    return sorted(names - ({"", NO_FINDING} if task == "multilabel" else {""}))


def task_of(labels: Sequence[str]) -> Task:
    """Tell the task by how the labels are written: multilabel where any holds ``;`` or ``?``, else multiclass."""
    return "multilabel" if any(SEPARATOR in label or UNKNOWN in label for label in labels) else "multiclass"


def flaw_of(label: str, task: Task) -> str:
    """Say why a label cannot be read, or "" where it can; whether its names are classes is not asked.

    >>> flaw_of("edema;?edema", "multilabel")
    "'edema' stands there twice"
    """
    if task != "multilabel" or not label:
        return ""
    names = names_in(label, task)
    bare = [_bare(name, task) for name in names]
    if NO_FINDING in bare or (not names and label.strip() != NO_FINDING):
        return f"'{label}' names nothing; write '{NO_FINDING}', or leave it empty where nobody has looked"
    if "" in bare:
        return f"'{label}' holds a '{UNKNOWN}' without a name"
    if len(set(bare)) < len(bare):
        return f"'{next(name for name in bare if bare.count(name) > 1)}' stands there twice"
    apart = [part.strip() for part in label.split(SEPARATOR)]
    present = [name for name in names if not name.startswith(UNKNOWN)]
    return f"'{NO_FINDING}' stands beside '{present[0]}'" if NO_FINDING in apart and present else ""


def _bare(name: str, task: Task) -> str:
    return name.removeprefix(UNKNOWN).strip() if task == "multilabel" else name
