"""Folds whose metric is too far from that of the other folds for chance alone."""

import math
from collections.abc import Mapping
from statistics import NormalDist, fmean
from typing import Any

Metric = Mapping[str, Any]


def outlying_folds(metrics: Mapping[str, Metric], confidence: float) -> list[str]:
    """Name the folds whose metric differs from the mean of the others by more than their intervals allow.

    An interval gives the standard error on the side of the other folds. The level is shared among the folds
    (Bonferroni), so that where all are alike, one is named in at most a share 1 - confidence of runs, about. The one
    that is farthest away is named first and does not count as one of the others any more.

    Parameters
    ----------
    metrics : mapping
        Fold to `value, lower, upper`; folds without an interval are left out.
    confidence : float
        Level of the intervals, in (0, 1).

    Returns
    -------
    list of str
        Empty where fewer than three folds have an interval: of two that differ, neither is the outlier.
    """
    known = {fold: metric for fold, metric in metrics.items() if metric["lower"] is not None}
    each = NormalDist().inv_cdf((1 + confidence) / 2)
    found: list[str] = []
    while len(known) > 2:
        limit = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * len(known)))
        apart = {fold: apart_from_others(fold, known, each) for fold in known}
        beyond = [fold for fold, (_, errors) in apart.items() if errors > limit]
        if not beyond:
            break
        found.append(max(beyond, key=lambda fold: apart[fold][0]))
        del known[found[-1]]
    return found


def apart_from_others(fold: str, metrics: Mapping[str, Metric], each: float) -> tuple[float, float]:
    """Measure how far a fold is from the mean of the others, as it is and in standard errors of that difference.

    Parameters
    ----------
    each : float
        How many standard errors an interval reaches to either side.
    """
    metric, others = metrics[fold], [other for name, other in metrics.items() if name != fold]
    apart: float = metric["value"] - fmean(other["value"] for other in others)
    own = (metric["value"] - metric["lower"] if apart > 0 else metric["upper"] - metric["value"]) / each
    of_mean = math.hypot(*((other["upper"] - other["lower"]) / 2 / each for other in others)) / len(others)
    error = math.hypot(own, of_mean)
    if error == 0:  # all intervals have shrunk to a point, as where every fold ranks all of its cases right
        return abs(apart), math.inf if apart else 0.0
    return abs(apart), abs(apart) / error
