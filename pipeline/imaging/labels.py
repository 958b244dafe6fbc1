"""Convert the column `label` of a cohort to numbers: a class, a grade, findings, a number itself, or a time.

The label of a time until an event (survival) is the time, and a ``+`` follows it if the case is censored, as R's `Surv`
prints it: ``12.5`` is an event at 12.5, and ``12.5+`` says that there was none until then.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["multiclass", "ordinal", "multilabel", "regression", "survival"]
REGRESSION: Task = "regression"
SURVIVAL: Task = "survival"
VALUE = "value"  # the one output of a regression, in the place of the names of classes
LOG_HAZARD = "log_hazard"  # the one output of a survival model
OUTPUTS = {REGRESSION: VALUE, SURVIVAL: LOG_HAZARD}  # tasks without classes, and what stands in their place
CENSORED = "+"  # after the time of a censored case
SEPARATOR = ";"
UNKNOWN = "?"
NO_FINDING = "no finding"  # the case was read and shows none of the classes; an empty label was not read


def targets_of(labels: Sequence[str], classes: Sequence[str], task: Task) -> NDArray[np.float32]:
    """Convert labels to rows of numbers: 1 for present, 0 for absent, NaN for unknown.

    Parameters
    ----------
    labels : sequence of str
        One class; for multilabel tasks several joined by ``;``, with ``?name`` for an unknown finding and
        ``no finding`` for a case without any; for regression a number; for survival a time. Empty for a case without a
        label.
    classes : sequence of str
        Classes in the order of the columns.
    task : {"multiclass", "ordinal", "multilabel", "regression", "survival"}
        Rows of the first two are one-hot; those of regression hold the number. Those of survival hold the time of an
        event, or minus the time of a censored case (Chen, Guestrin 2016, XGBoost's labels of `survival:cox`).

    Returns
    -------
    (n, n_classes) float32 array
        Rows of cases without a label are NaN in every column.

    Raises
    ------
    ValueError
        If a label is not one of the classes; the message names it.

    >>> targets_of(["edema;?mass", "no finding", ""], ["edema", "mass"], "multilabel")
    array([[ 1., nan],
           [ 0.,  0.],
           [nan, nan]], dtype=float32)
    """
    if task == REGRESSION:
        return np.array([[float(label) if label else np.nan] for label in labels], np.float32).reshape(-1, 1)
    if task == SURVIVAL:
        time, event = times_of(labels)
        return np.where(event, time, -time).astype(np.float32).reshape(-1, 1)
    column = {name: number for number, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, label in zip(targets, labels, strict=True):
        for name in names_in(label, task):
            bare = _bare(name, task)
            if bare not in column:
                raise ValueError(f"the label '{bare}' is not one of the classes {', '.join(classes)}")
            row[column[bare]] = 1.0 if bare == name else np.nan
        if label == "":
            row[:] = np.nan
    return targets


def label_of_time(time: float, event: bool) -> str:
    """Write the time of an event, or of a censored case, as a label.

    >>> label_of_time(12.5, True), label_of_time(3, False)
    ('12.5', '3.0+')
    """
    return f"{float(time)!r}{'' if event else CENSORED}"


def times_of(labels: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read labels of a survival cohort: times (n,), NaN for a case without a label, and whether each is an event (n,).

    >>> times_of(["12.5", "3.0+", ""])
    (array([12.5,  3. ,  nan]), array([ True, False, False]))
    """
    texts = [str(label) for label in labels]
    time = np.array([float(text.removesuffix(CENSORED)) if text else np.nan for text in texts], dtype=np.float64)
    return time, np.array([text != "" and not text.endswith(CENSORED) for text in texts], dtype=np.bool_)


def names_in(label: str, task: Task) -> list[str]:
    """Split a label into its names, with ``?`` kept.

    >>> names_in("edema; ?mass", "multilabel")
    ['edema', '?mass']
    """
    if task != "multilabel":
        return [label] if label else []
    return [name.strip() for name in label.split(SEPARATOR) if name.strip() not in ("", NO_FINDING)]


def classes_in(labels: Sequence[str], task: Task) -> list[str]:
    """List the classes named in labels, with or without ``?``, in alphabetical order.

    >>> classes_in(["mass;?edema", "no finding", ""], "multilabel")
    ['edema', 'mass']
    """
    names = {_bare(name, task) for label in labels for name in names_in(label, task)}
    return sorted(names - ({"", NO_FINDING} if task == "multilabel" else {""}))


def renamed(label: str, names: Mapping[str, str]) -> str:
    """Rename each of the names in a label; names that become one are written once.

    Parameters
    ----------
    label : str
        As in `targets_of`.
    names : mapping
        New name of each old one; a whole label of several names may be an old one, too.

    >>> renamed("0;?1", {"0": "edema", "1": "mass"})
    'edema;?mass'
    """
    if label in names or not (SEPARATOR in label or UNKNOWN in label):
        return names.get(label, label)
    found = []
    for name in names_in(label, "multilabel") or [label.strip()]:
        bare = name.removeprefix(UNKNOWN).strip()
        found.append(name[: len(name) - len(name.removeprefix(UNKNOWN))] + names.get(bare, bare))
    return SEPARATOR.join(dict.fromkeys(found))


def task_of(labels: Sequence[str]) -> Task:
    """Infer the task from the labels: multilabel if any contains ``;`` or ``?``, else multiclass."""
    return "multilabel" if any(SEPARATOR in label or UNKNOWN in label for label in labels) else "multiclass"


def flaw_of(label: str, task: Task) -> str:
    """Explain why a label cannot be read, or return ""; whether its names are classes is not checked.

    >>> flaw_of("edema;?edema", "multilabel")
    "'edema' is named twice"
    """
    if task != "multilabel" or not label:
        return ""
    names = names_in(label, task)
    bare = [_bare(name, task) for name in names]
    if NO_FINDING in bare or (not names and label.strip() != NO_FINDING):
        return f"'{label}' names no class; write '{NO_FINDING}', or leave the label empty if the case was not read"
    if "" in bare:
        return f"'{label}' contains a '{UNKNOWN}' without a name"
    if len(set(bare)) < len(bare):
        return f"'{next(name for name in bare if bare.count(name) > 1)}' is named twice"
    apart = [part.strip() for part in label.split(SEPARATOR)]
    present = [name for name in names if not name.startswith(UNKNOWN)]
    return f"'{NO_FINDING}' is combined with '{present[0]}'" if NO_FINDING in apart and present else ""


def _bare(name: str, task: Task) -> str:
    return name.removeprefix(UNKNOWN).strip() if task == "multilabel" else name
