"""Recalibrate a model for a new site from labelled scans: the update, its intervals, and metrics before and after."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import cluster_weights, estimate, estimate_of
from pipeline.metrics.calibrators.updating import Recalibration, Update, fit_recalibration
from pipeline.metrics.discrimination import log_loss
from pipeline.metrics.levels import level_for
from pipeline.metrics.likelihood import intercept_estimate, slope_estimate
from pipeline.metrics.questions import questions_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Names = NDArray[np.str_]

EVENTS_PER_PARAMETER = 10  # Peduzzi et al. 1996; with fewer, a slope is mostly noise
LEAST = 2  # patients of a class
DRAWS = 500
PARTS = 10  # folds of the cross-fitting


@dataclass(frozen=True)
class SiteUpdate:
    """A recalibration with its intervals and its effect on the metrics.

    Attributes
    ----------
    update : {"intercept", "intercept and slope"}
    change : Recalibration
    intervals : dict
        `value`, `lower`, `upper` of each intercept relative to the first class, and of the slope if it was fitted.
    before, after : dict
        Metrics on the labelled scans. `after` is cross-fitted: each patient is predicted with a fit on the others.
    patients : dict
        Number of patients of each class.
    """

    update: Update
    change: Recalibration
    intervals: dict[str, dict[str, Any]]
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]
    patients: dict[str, int]

    @property
    def helps(self) -> bool:
        """Whether the log-loss is lower after the update."""
        return bool(self.after["log-loss"]["value"] < self.before["log-loss"]["value"])

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def update_for(counts: Sequence[int]) -> Update:
    """Choose the parameters to fit from the number of patients of each class.

    With K classes, intercepts and slope are K free parameters; each needs ten patients of the rarest class.

    >>> update_for([50, 12]), update_for([50, 20])
    ('intercept', 'intercept and slope')
    """
    return "intercept and slope" if min(counts) >= EVENTS_PER_PARAMETER * len(counts) else "intercept"


def update_site(
    probabilities: Floats,
    labels: Ints,
    patients: Names,
    classes: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> SiteUpdate:
    """Fit the intercepts, and the slope if there are enough patients, to the labelled scans of a site.

    Parameters
    ----------
    probabilities : (n, K)
        Released probabilities; rows sum to 1.
    labels : (n,) int
        Class indices.
    patients : (n,)
        Patient of each scan; the bootstrap resamples patients.
    classes : sequence of str
        The K classes.
    confidence : float
        Level of the intervals, in (0, 1).
    seed : int

    Raises
    ------
    ValueError
        If a class has fewer than two patients.
    """
    counts = [len(set(patients[labels == number])) for number in range(len(classes))]
    if min(counts) == 0:
        missing = classes[counts.index(0)]
        raise ValueError(f"no scan is labelled '{missing}'; add scans of that class")
    if min(counts) < LEAST:
        rarest = classes[counts.index(min(counts))]
        raise ValueError(
            f"only {min(counts)} patient is labelled '{rarest}', and {LEAST} of each class are needed: one to fit on, "
            "one to compare with; add patients of that class"
        )
    update = update_for(counts)
    weights, level = cluster_weights(patients, DRAWS, seed), level_for(confidence, patients)
    drawn = [_fit(probabilities, labels, row, update) for row in weights]
    afterwards = cross_fitted(probabilities, labels, patients, update)
    before, after = (
        metrics(one, labels, patients, classes, weights=weights, confidence=level)
        for one in (probabilities, afterwards)
    )
    return SiteUpdate(
        update=update,
        change=drawn[0],
        intervals=intervals_of(drawn, classes, slope=update != "intercept", confidence=level),
        before=before,
        after=after,
        patients=dict(zip(classes, counts, strict=True)),
    )


def intervals_of(
    drawn: Sequence[Recalibration], classes: Sequence[str], *, slope: bool, confidence: float
) -> dict[str, dict[str, Any]]:
    """Compute bootstrap intervals of the intercepts relative to the first class, and of the slope if it is fitted."""
    found = {
        f"intercept of {name} against {classes[0]}": _interval(
            [one.intercepts[number] - one.intercepts[0] for one in drawn], confidence
        )
        for number, name in enumerate(classes)
        if number
    }
    return found | ({"slope": _interval([one.slope for one in drawn], confidence)} if slope else {})


def cross_fitted(probabilities: Floats, labels: Ints, patients: Names, update: Update) -> Floats:
    """Update the probabilities (n, K) of each patient by a recalibration fitted on other patients."""
    _, of_case = np.unique(patients, return_inverse=True)
    found = probabilities.copy()
    for part in range(min(PARTS, int(of_case.max()) + 1)):
        held = of_case % PARTS == part
        if held.any() and not held.all():
            found[held] = fit_recalibration(probabilities[~held], labels[~held], update).apply(probabilities[held])
    return found


def metrics(
    probabilities: Floats, labels: Ints, patients: Names, classes: Sequence[str], *, weights: Floats, confidence: float
) -> dict[str, dict[str, Any]]:
    """Compute the log-loss and, for each question, calibration in the large (ideal 0) and slope (ideal 1)."""
    found = {"log-loss": estimate(lambda rows: log_loss(probabilities, labels, rows), weights, confidence)}
    for question in questions_of(probabilities, labels, classes):
        of = f" of {question.name}" if len(classes) > 2 else ""
        asked = (question.prediction, question.events, patients, confidence)
        found[f"calibration in the large{of}"] = intercept_estimate(*asked)
        found[f"calibration slope{of}"] = slope_estimate(*asked)
    return {name: asdict(one) for name, one in found.items()}


def _fit(probabilities: Floats, labels: Ints, times: Floats, update: Update) -> Recalibration:
    rows = np.repeat(np.arange(len(labels)), times.astype(np.int64))
    return fit_recalibration(probabilities[rows], labels[rows], update)


def _interval(values: Sequence[float], confidence: float) -> dict[str, Any]:
    return asdict(estimate_of(np.array(values), confidence))
