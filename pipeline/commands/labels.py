"""Read the labels of scans that a released model has predicted, in the notation of the training labels."""

from collections.abc import Sequence, Set
from pathlib import PurePath

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


def scans_named(names: Sequence[str], scans: Sequence[str]) -> list[str]:
    """Find the scans that a table of labels means: by the same name, or by a path that ends alike.

    Parameters
    ----------
    names : sequence of str
        Names or paths in the table, e.g. "inbox/monday/1.nii.gz".
    scans : sequence of str
        Names or paths of the scans, e.g. "monday/1.nii.gz".

    Returns
    -------
    list of str
        For each of `names` one of `scans`.

    Raises
    ------
    ValueError
        If no scan or more than one fits a name.

    >>> scans_named(["inbox/monday/1.nii.gz"], ["monday/1.nii.gz", "tuesday/1.nii.gz"])
    ['monday/1.nii.gz']
    """
    of_file: dict[str, set[str]] = {}
    for one in scans:
        of_file.setdefault(PurePath(one).name, set()).add(one)
    return [_scan_named(name, of_file.get(PurePath(name).name, set())) for name in names]


def _scan_named(name: str, scans: Set[str]) -> str:
    if name in scans:
        return name
    parts = PurePath(name).parts
    found = sorted(one for one in scans if _ends_alike(parts, PurePath(one).parts))
    if not found:
        raise ValueError(f"scan '{name}' is not among the predicted scans; correct its name or remove the row")
    if len(found) > 1:
        raise ValueError(f"scan '{name}' may be {found[0]} or {found[1]}; name its folder as well")
    return found[0]


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shared = min(len(one), len(other))
    return shared > 0 and one[-shared:] == other[-shared:]


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
