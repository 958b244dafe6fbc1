"""Operating points: thresholds chosen on development cases for a sensitivity or a specificity, evaluated on others."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import estimate_all
from pipeline.metrics.discrimination import Floats, ratio
from pipeline.metrics.summary import in_columns

Marks = NDArray[np.bool_]
Kind = Literal["sensitivity", "specificity"]
ROUNDING = 1e-9  # in floating point 0.55 * 100 is more than 55, yet 55 cases are 55 % of 100


def threshold_for(scores: Floats, events: Marks, kind: Kind, level: float) -> float:
    """Find the threshold at which these cases reach a sensitivity or a specificity; positive is a score >= threshold.

    For a sensitivity it is the largest threshold that reaches it: the k-th highest score of the events, k of them
    being the level or just above. For a specificity it is the smallest that reaches it: the number next above the
    k-th lowest score of the non-events. Equal scores fall on one side together, so that the level may be passed, and
    every level up to 1 can be reached. The other kind of cases plays no part.

    Of n exchangeable cases of that kind, k / (n + 1) of new ones are expected on the right side: a little less than
    the level that the cases themselves show.

    Parameters
    ----------
    scores : (n,)
        Finite.
    events : (n,) bool
    kind : {"sensitivity", "specificity"}
    level : float
        Above 0, at most 1.

    Returns
    -------
    float
        NaN where there is no event (for a sensitivity) or no non-event (for a specificity).

    Raises
    ------
    ValueError
        If the level is not above 0 and at most 1.
    """
    if not 0 < level <= 1:
        raise ValueError(f"{kind}: {level:g} is not above 0 and at most 1")
    among = np.sort(scores[events if kind == "sensitivity" else ~events])
    if not len(among):
        return math.nan
    k = needed(level, len(among))
    return float(among[-k] if kind == "sensitivity" else np.nextafter(among[k - 1], np.inf))


def needed(level: float, n: int) -> int:
    """Count how many of n cases it takes to reach a share, at least one."""
    return max(math.ceil(level * n - ROUNDING), 1)


def chosen_elsewhere(
    choose: Callable[..., float], folds: NDArray[np.str_], development: Mapping[str, tuple[NDArray[Any], ...]]
) -> Floats:
    """Give each case (n,) the threshold that was chosen on the development cases of its fold.

    Parameters
    ----------
    choose : callable
        What is known of some cases, each (k,), to a threshold.
    folds : (n,)
    development : mapping
        Fold to what `choose` is given.

    Returns
    -------
    (n,)
        NaN for a fold of which there are no development cases.
    """
    chosen = {fold: choose(*known) for fold, known in development.items()}
    return np.array([chosen.get(fold, math.nan) for fold in folds], dtype=np.float64)


def operating_table(
    prediction: Floats,
    events: Marks,
    patients: NDArray[np.str_],
    folds: NDArray[np.str_],
    *,
    development: Mapping[str, tuple[Floats, Marks]],
    levels: Sequence[tuple[Kind, float]],
    weights: Floats,
    confidence: float,
) -> pd.DataFrame:
    """Evaluate thresholds on cases that they were not chosen on, a row per level.

    The intervals take the thresholds as given: they tell how these thresholds do, not how other development cases
    would have placed them.

    Parameters
    ----------
    prediction : (n,)
        Scores or probabilities.
    events : (n,) bool
    patients : (n,)
    folds : (n,)
        Whose threshold evaluates each case; one and the same for a test set. A patient stands in one fold only.
    development : mapping
        Of each fold the predictions (k,) and events (k,) of other patients: in cross-fitting those of all the other
        folds, prediction by the map that evaluates this fold, since the maps of the other folds have seen its labels.
    levels : sequence of (kind, level)
        E.g. `("specificity", 0.9)`.
    weights : (1 + R, n)
        As `bootstrap.cluster_weights` gives them.
    confidence : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Columns `rule` ("sensitivity at specificity 0.90"), `threshold` (median over folds) with `threshold_lowest` and
        `threshold_highest`, `n`, `patients`, `events`, and `sensitivity`, `specificity`, `ppv`, `npv`, each with
        `_lower` and `_upper`. Metrics that do not exist are empty; all of a row are where a fold has no threshold.

    Raises
    ------
    ValueError
        If a patient is in two folds, or a level is out of range.
    """
    _refuse_shared(patients, folds)
    counts = {"n": len(events), "patients": len(np.unique(patients)), "events": int(events.sum())}
    rows: list[dict[str, Any]] = []
    for kind, level in levels:
        thresholds = chosen_elsewhere(partial(threshold_for, kind=kind, level=level), folds, development)
        found = estimate_all(metrics_of(called(prediction, thresholds), events), weights, confidence)
        metrics = in_columns({name: vars(one) for name, one in found.items()})
        rows.append({"rule": rule(kind, level), **threshold_columns(thresholds, folds), **counts, **metrics})
    return pd.DataFrame(rows)


def rule(kind: Kind, level: float) -> str:
    """Name an operating point by what it fixes and what is then asked: "sensitivity at specificity 0.90"."""
    asked = "sensitivity" if kind == "specificity" else "specificity"
    return f"{asked} at {kind} {np.format_float_positional(level, min_digits=2)}"


def called(prediction: Floats, thresholds: Floats) -> Floats:
    """Mark the cases (n,) that are called positive: 1 or 0, and NaN where there is no threshold to tell by."""
    return np.where(np.isnan(thresholds), np.nan, prediction >= thresholds)


def metrics_of(positive: Floats, events: Marks) -> dict[str, Callable[[Floats], Floats]]:
    """Bind the four metrics of a decision to the cases; what is left open is the weights.

    The predictive values are those at the share of events that these cases have.
    """
    ill, well = events.astype(np.float64), (~events).astype(np.float64)
    return {
        "sensitivity": partial(share, positive, ill),
        "specificity": partial(share, 1 - positive, well),
        "ppv": partial(share, ill, positive),
        "npv": partial(share, well, 1 - positive),
    }


def share(marked: Floats | Marks, among: Floats, weights: Floats) -> Floats:
    """Weigh the share (R,) of the marked (n,) among some (n,); NaN where there are none."""
    return ratio(weights @ (marked * among), weights @ among)


def threshold_columns(thresholds: Floats, folds: NDArray[np.str_]) -> dict[str, float]:
    """Tell the thresholds of the cases (n,) by one of each fold: their median, lowest and highest."""
    chosen = thresholds[np.unique(folds, return_index=True)[1]]
    return {
        "threshold": float(np.median(chosen)),
        "threshold_lowest": float(chosen.min()),
        "threshold_highest": float(chosen.max()),
    }


def _refuse_shared(patients: NDArray[np.str_], folds: NDArray[np.str_]) -> None:
    places = pd.Series(folds).groupby(patients).nunique()
    if (places > 1).any():
        raise ValueError(f"patient {places.idxmax()} stands in two folds; a threshold would be chosen on its own cases")
