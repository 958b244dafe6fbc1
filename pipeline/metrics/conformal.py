"""Split conformal prediction: sets of classes that contain the true class with a guaranteed probability.

The score of a case is 1 - p(true class), and its set contains every class whose score is not above a threshold (LAC:
Sadinle, Lei, Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels"). The threshold is
the k-th lowest calibration score, k = ceil((n + 1) (1 - alpha)) (Vovk, Gammerman, Shafer 2005, section 2.2).

The guarantee requires exchangeable units, which are patients rather than images. So each patient counts once in n, by
the highest score of its images: with probability at least 1 - alpha *all* images of a new patient are covered, and a
single image slightly more often.

A label of a multilabel task is a question of two classes, `ABSENT_OR_PRESENT`, with `both_ways(prediction)`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.summary import check_probabilities

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Marks = NDArray[np.bool_]
Names = NDArray[np.str_]
By = Literal["class", "site"] | None

ABSENT_OR_PRESENT = ("absent", "present")
EVERYONE = "all"


@dataclass(frozen=True)
class Threshold:
    """The highest score that is included in a set; None if `n` patients are too few for a guarantee."""

    value: float | None
    n: int


NO_ONE = Threshold(None, 0)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one guarantee: with probability at least 1 - alpha, the set of a case contains its true class.

    Attributes
    ----------
    alpha : float
        Accepted share of missed cases.
    by : {None, "class", "site"}
        For which patients the guarantee holds: all together, those of each true class ("Mondrian": Vovk, Gammerman,
        Shafer 2005, section 4.5), or those of each site.
    groups : dict
        Class number, site name, or "all", to its threshold.
    """

    alpha: float
    by: By
    groups: dict[str, Threshold]

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Thresholds":
        """Rebuild the object from the values of `as_json`."""
        groups = {name: Threshold(**group) for name, group in values["groups"].items()}
        return cls(values["alpha"], values["by"], groups)


def fewest(alpha: float) -> int:
    """Compute the smallest number of calibration patients that allows a guarantee: ceil(1 / alpha) - 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; choose a share of missed cases above 0 and below 1, such as 0.1")
    return _ceil(1 / alpha) - 1


def rank_of(n: int, alpha: float) -> int:
    """Compute the rank k, among n patients, of the score that becomes the threshold; above n if they are too few."""
    return _ceil((n + 1) * (1 - alpha))


def conformal_thresholds(
    probabilities: Floats, labels: Ints, patients: Names, alpha: float, *, by: By = None, sites: Names | None = None
) -> Thresholds:
    """Find the thresholds on cases that the model was not trained on.

    Parameters
    ----------
    probabilities : (n, K)
        From the calibrator that will be applied to new cases.
    labels : (n,) int
    patients : (n,)
        The unit: of each patient (within a class or site) the image with the highest score counts.
    alpha : float
        Above 0, below 1.
    by : {None, "class", "site"}
    sites : (n,), optional
        Required for "site".

    Returns
    -------
    Thresholds
        A group of fewer than `fewest(alpha)` patients has no threshold.

    Raises
    ------
    ValueError
        If alpha is out of range, probabilities are not finite or do not sum to one, or required sites are missing.
    """
    check_probabilities(probabilities)
    scores = 1 - probabilities[np.arange(len(labels)), labels]
    names = _groups(by, len(labels), probabilities.shape[1], sites)
    own = names[np.arange(len(labels)), labels]
    masks = {str(name): own == name for name in np.unique(names)}
    return Thresholds(alpha, by, {name: _threshold(scores[one], patients[one], alpha) for name, one in masks.items()})


def sets_of(probabilities: Floats, thresholds: Thresholds, sites: Names | None = None) -> Marks:
    """Compute the set of each case: (n, K) bool.

    A class without a threshold is in every set, and the sets of a site without one are full, because nothing allows
    to exclude a class.
    """
    check_probabilities(probabilities)
    values = [np.inf if one.value is None else one.value for one in thresholds_for(probabilities, thresholds, sites)]
    return np.asarray(1 - probabilities <= np.reshape(values, probabilities.shape))


def _groups(by: By, n: int, n_classes: int, sites: Names | None) -> Names:
    """Name the group (n, K) whose threshold applies to each class of each case."""
    if by == "site" and sites is None:
        raise ValueError("thresholds by site need the site of every case; pass sites")
    of_case = sites[:, None] if by == "site" and sites is not None else np.full((n, 1), EVERYONE)
    groups = np.arange(n_classes).astype(str)[None] if by == "class" else of_case
    return np.broadcast_to(groups, (n, n_classes))


def thresholds_for(probabilities: Floats, thresholds: Thresholds, sites: Names | None) -> list[Threshold]:
    """Look up the thresholds of all classes of all cases, flat: (n * K)."""
    names = _groups(thresholds.by, len(probabilities), probabilities.shape[1], sites)
    return [thresholds.groups.get(str(name), NO_ONE) for name in names.flat]


def _threshold(scores: Floats, patients: Names, alpha: float) -> Threshold:
    worst = pd.Series(scores).groupby(patients).max().sort_values()
    n = len(worst)
    return Threshold(None if n < fewest(alpha) else float(worst.iloc[rank_of(n, alpha) - 1]), n)


def _ceil(value: float) -> int:
    return ceil(round(value, 9))  # 1 - 0.9 is not quite 0.1
