"""The calibration of a new site where labels stand each by itself: every label is updated like two classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.commands.predict.site_update import SiteUpdate, change_from, update_site
from pipeline.metrics.calibrators.updating import Recalibration
from pipeline.metrics.questions import both_ways

Floats = NDArray[np.float64]
Names = NDArray[np.str_]


@dataclass(frozen=True)
class LabelChanges:
    """A change of the calibration for each of C labels; None leaves a label as it was released."""

    changes: tuple[Recalibration | None, ...]

    def apply(self, probabilities: Floats) -> Floats:
        """Recalibrate (n, C) probabilities, each column by itself."""
        columns = zip(self.changes, probabilities.T, strict=True)
        return np.stack([one.apply(both_ways(column))[:, 1] if one else column for one, column in columns], axis=1)


def update_labels(
    probabilities: Floats,
    labels: Floats,
    patients: Names,
    classes: Sequence[str],
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, SiteUpdate | None]:
    """Update each label by the scans of a site in which it is known.

    Parameters
    ----------
    probabilities : (n, C)
        As released.
    labels : (n, C)
        1 for there, 0 for not there, NaN for not known.
    patients : (n,)
        Intervals come from drawing them.
    classes : sequence of str
        The C labels.
    confidence : float
    seed : int

    Returns
    -------
    dict
        By label what `update_site` tells of the two classes "no <label>" and "<label>"; None where no patient has
        the label, or none is without it: such a label stays as it was.

    Raises
    ------
    ValueError
        If that is so of every label.
    """
    found: dict[str, SiteUpdate | None] = {}
    for name, prediction, truth in zip(classes, probabilities.T, labels.T, strict=True):
        known = np.isfinite(truth)
        events = (truth[known] == 1).astype(np.int64)
        pair = both_ways(prediction[known])
        both = 0 < events.sum() < len(events)
        found[name] = update_site(pair, events, patients[known], sides(name), confidence, seed) if both else None
    if not any(found.values()):
        raise ValueError("of no label are there both patients who have it and patients who have not; add some")
    return found


def sides(name: str) -> list[str]:
    """Name the two classes of a label."""
    return [f"no {name}", name]


def changes_from(values: Mapping[str, Any], classes: Sequence[str]) -> LabelChanges:
    """Read the changes out of `SiteUpdate.as_json` by label, null where a label was left as it was.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is something else, or of other labels.
    """
    if set(values) != set(classes):
        raise ValueError(f"an update of each of the labels {', '.join(classes)} is needed")
    updates = [values[name] for name in classes]
    return LabelChanges(tuple(None if one is None else change_from(one, 2) for one in updates))
