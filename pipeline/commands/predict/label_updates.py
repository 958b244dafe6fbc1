"""Recalibrate a multilabel model for a new site: each label is updated like a two-class model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.commands.predict.site_update import LEAST, SiteUpdate, update_site
from pipeline.metrics.questions import both_ways

Floats = NDArray[np.float64]
Names = NDArray[np.str_]


def update_labels(
    probabilities: Floats,
    labels: Floats,
    patients: Names,
    classes: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, SiteUpdate | None]:
    """Fit a recalibration of each label to the scans of a site in which it is known.

    Parameters
    ----------
    probabilities : (n, C)
        Released probabilities, in [0, 1].
    labels : (n, C)
        1 for present, 0 for absent, NaN for unknown.
    patients : (n,)
        Patient of each scan; the bootstrap resamples patients.
    classes : sequence of str
        The C labels.
    confidence : float
        Level of the intervals, in (0, 1).
    seed : int

    Returns
    -------
    dict
        By label, the result of `update_site` for the classes "no <label>" and "<label>"; None if fewer than
        two patients have the label or lack it: such a label stays unchanged.

    Raises
    ------
    ValueError
        If every label is None.
    """
    found: dict[str, SiteUpdate | None] = {}
    for name, prediction, truth in zip(classes, probabilities.T, labels.T, strict=True):
        known = np.isfinite(truth)
        events = (truth[known] == 1).astype(np.int64)
        pair = both_ways(prediction[known])
        both = min(len(set(patients[known][events == side])) for side in (0, 1)) >= LEAST
        found[name] = (
            update_site(pair, events, patients[known], sides(name), confidence=confidence, seed=seed) if both else None
        )
    if not any(found.values()):
        raise ValueError(f"no label has both {LEAST} patients with it and {LEAST} without it; add labelled scans")
    return found


def sides(name: str) -> list[str]:
    """Name the two classes that a label distinguishes."""
    return [f"no {name}", name]
