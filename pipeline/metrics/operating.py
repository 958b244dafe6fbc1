"""Operating points: thresholds for a sensitivity or a specificity, chosen on some cases and evaluated on others."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import Estimate
from pipeline.metrics.discrimination import Floats, ratio
from pipeline.metrics.shares import share_of
from pipeline.metrics.summary import in_columns

Marks = NDArray[np.bool_]
Kind = Literal["sensitivity", "specificity"]
ROUNDING = 1e-9  # in floating point 0.55 * 100 is more than 55, yet 55 cases are 55 % of 100


def threshold_for(scores: Floats, events: Marks, kind: Kind, level: float) -> float:
    """Find the threshold at which these cases reach a sensitivity or a specificity; positive is a score >= threshold.

    For a sensitivity it is the largest threshold that reaches it: the k-th highest score of the events, k the smallest
    count that reaches the level. For a specificity it is the smallest threshold that reaches it: the next number above
    the k-th lowest score of the non-events. Equal scores are on the same side, so that the level may be exceeded, and
    every level up to 1 can be reached. Only events, or only non-events, matter.

    Of new exchangeable cases of that kind, k / (n + 1) are expected on the correct side, slightly below the level
    observed on the n cases themselves.

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
        NaN if there is no event (for a sensitivity) or no non-event (for a specificity).

    Raises
    ------
    ValueError
        If the level is not above 0 and at most 1.
    """
    if not 0 < level <= 1:
        raise ValueError(f"{kind}: {level:g} is out of range; choose a level above 0 and at most 1")
    among = np.sort(scores[events if kind == "sensitivity" else ~events])
    if not len(among):
        return math.nan
    k = needed(level, len(among))
    return float(among[-k] if kind == "sensitivity" else np.nextafter(among[k - 1], np.inf))


def needed(level: float, n: int) -> int:
    """Compute how many of n cases are needed to reach a share, at least one."""
    return max(math.ceil(level * n - ROUNDING), 1)


def chosen_elsewhere(
    choose: Callable[..., float], folds: NDArray[np.str_], development: Mapping[str, tuple[NDArray[Any], ...]]
) -> Floats:
    """Choose a threshold on the development cases of each fold, and give each case (n,) that of its fold.

    Parameters
    ----------
    choose : callable
        Maps arrays (k,) of the development cases to a threshold.
    folds : (n,)
    development : mapping
        Fold to the arguments of `choose`.

    Returns
    -------
    (n,)
        NaN for a fold without development cases.
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
    """Evaluate thresholds on cases on which they were not chosen, one row per level.

    The intervals treat the thresholds as fixed: they do not include the variation due to other development cases.

    Parameters
    ----------
    prediction : (n,)
        Scores or probabilities.
    events : (n,) bool
    patients : (n,)
    folds : (n,)
        Fold whose threshold applies to each case; the same for all cases of a test set. A patient is in one fold only.
    development : mapping
        Fold to predictions (k,) and events (k,) of other patients. In cross-fitting these are the cases of all other
        folds, with predictions of the calibrator that evaluates this fold, since the calibrators of the other folds
        have seen its labels.
    levels : sequence of (kind, level)
        E.g. `("specificity", 0.9)`.
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`.
    confidence : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Columns `rule` ("sensitivity at specificity 0.90"), `threshold` (median over folds) with `threshold_lowest` and
        `threshold_highest`, `n`, `patients`, `events`, and `sensitivity`, `specificity`, `ppv`, `npv`, each with
        `_lower` and `_upper`. Metrics that do not exist are empty; all metrics of a row are if a fold has no threshold.

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
        found = shares_of(called(prediction, thresholds), events, patients, weights=weights, confidence=confidence)
        metrics = in_columns({name: vars(one) for name, one in found.items()})
        rows.append({"rule": rule(kind, level), **threshold_columns(thresholds, folds), **counts, **metrics})
    return pd.DataFrame(rows)


def rule(kind: Kind, level: float) -> str:
    """Name an operating point by the reported and the fixed metric: "sensitivity at specificity 0.90"."""
    asked = "sensitivity" if kind == "specificity" else "specificity"
    return f"{asked} at {kind} {np.format_float_positional(level, min_digits=2)}"


def called(prediction: Floats, thresholds: Floats) -> Floats:
    """Classify the cases (n,): 1 positive, 0 negative, NaN without a threshold."""
    return np.where(np.isnan(thresholds), np.nan, prediction >= thresholds)


def shares_of(
    positive: Floats, events: Marks, patients: NDArray[np.str_], *, weights: Floats, confidence: float
) -> dict[str, Estimate]:
    """Estimate the four metrics of a decision with the intervals of `shares.share_of`."""
    return {
        name: share_of(marked, among, patients, weights=weights, confidence=confidence)
        for name, (marked, among) in _parts(positive, events).items()
    }


def metrics_of(positive: Floats, events: Marks) -> dict[str, Callable[[Floats], Floats]]:
    """Bind the four metrics of a decision to the cases; each then maps weights (R, n) to values (R,).

    The predictive values are those at the prevalence of these cases.
    """
    return {name: partial(share, *part) for name, part in _parts(positive, events).items()}


def _parts(positive: Floats, events: Marks) -> dict[str, tuple[Floats, Floats]]:
    """Give of each metric the marked cases (n,), and the cases (n,) among which they are counted."""
    ill, well = events.astype(np.float64), (~events).astype(np.float64)
    return {
        "sensitivity": (positive, ill),
        "specificity": (1 - positive, well),
        "ppv": (ill, positive),
        "npv": (well, 1 - positive),
    }


def share(marked: Floats | Marks, among: Floats, weights: Floats) -> Floats:
    """Compute the weighted share (R,) of marked cases (n,) among some cases (n,); NaN if these have no weight."""
    return ratio(weights @ (marked * among), weights @ among)


def threshold_columns(thresholds: Floats, folds: NDArray[np.str_]) -> dict[str, float]:
    """Compute the median, lowest and highest threshold over the folds of the cases (n,)."""
    chosen = thresholds[np.unique(folds, return_index=True)[1]]
    return {
        "threshold": float(np.median(chosen)),
        "threshold_lowest": float(chosen.min()),
        "threshold_highest": float(chosen.max()),
    }


def _refuse_shared(patients: NDArray[np.str_], folds: NDArray[np.str_]) -> None:
    places = pd.Series(folds).groupby(patients).nunique()
    if (places > 1).any():
        raise ValueError(
            f"patient {places.idxmax()} is in two folds, so a threshold would be chosen on its own cases; split again"
        )
