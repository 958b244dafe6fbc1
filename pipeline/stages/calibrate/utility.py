"""Clinical utility of the predictions: net benefit and the decision curve.

Acting from a probability t upwards implies that one true positive is worth (1 - t) / t false positives (Vickers and
Elkin 2006, "Decision curve analysis", Medical Decision Making 26). Weights are (R, n), and each metric is computed for
all rows at once.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bands import band
from pipeline.metrics.discrimination import Floats, ratio

Marks = NDArray[np.bool_]


def net_benefit(
    prediction: Floats, events: Marks, weights: Floats, thresholds: Floats, *, prevalence: float | None = None
) -> Floats:
    """Compute the net benefit: true positives / n - false positives / n * t / (1 - t).

    Parameters
    ----------
    prediction : (n,)
        Probabilities; a prediction equal to the threshold counts as positive.
    events : (n,) bool
    weights : (R, n), at least 0
    thresholds : (T,)
        Probabilities in [0, 1) from which one would act.
    prevalence : float, optional
        Prevalence where the predictions would be used, for a case-control sample. Events and non-events are weighted
        to it; the predictions are not changed.

    Returns
    -------
    (R, T)
        In true positives per case, at most the prevalence. NaN if a weighting leaves no case, or with `prevalence` no
        event or no non-event.

    Raises
    ------
    ValueError
        If a threshold is not in [0, 1).
    """
    if (thresholds < 0).any() or (thresholds >= 1).any():
        raise ValueError("thresholds: give probabilities from 0 to below 1")
    called = prediction[:, None] >= thresholds
    hits, false_alarms = weights @ (called & events[:, None]), weights @ (called & ~events[:, None])
    per_event, per_other = _worth_of_a_case(events, weights, prevalence)
    return per_event * hits - per_other * false_alarms * thresholds / (1 - thresholds)


def treat_all(events: Marks, weights: Floats, thresholds: Floats, prevalence: float | None = None) -> Floats:
    """Compute the net benefit (R, T) of acting on every case; that of acting on none is 0."""
    return net_benefit(np.ones(len(events)), events, weights, thresholds, prevalence=prevalence)


def gain(
    prediction: Floats, events: Marks, weights: Floats, thresholds: Floats, *, prevalence: float | None = None
) -> Floats:
    """Compute the net benefit (R, T) minus that of the better strategy without predictions: to act on all or on none.

    The better strategy is chosen for each weighting, so that the interval includes this choice. Near the prevalence,
    where both are equal, this underestimates the gain slightly.
    """
    without = np.maximum(treat_all(events, weights, thresholds, prevalence), 0)
    return net_benefit(prediction, events, weights, thresholds, prevalence=prevalence) - without


def decision_curve(
    prediction: Floats,
    events: Marks,
    weights: Floats,
    thresholds: Floats,
    *,
    confidence: float,
    prevalence: float | None = None,
) -> pd.DataFrame:
    """Tabulate the decision curve, a row per threshold.

    Parameters
    ----------
    prediction, events, weights, thresholds, prevalence
        See `net_benefit`; the thresholds must be declared before the cases are evaluated.
    weights : (1 + R, n)
        As `bootstrap.cluster_weights` gives them.
    confidence : float
        Level of the pointwise intervals, e.g. 0.95.

    Returns
    -------
    pandas.DataFrame
        Columns `threshold`, `net_benefit`, `treat_all`, `treat_none`, `gain` (paired, as `gain` computes it), `n`,
        `events`; `net_benefit` and `gain` with `_lower` and `_upper`.
    """
    benefit = net_benefit(prediction, events, weights, thresholds, prevalence=prevalence)
    gained = gain(prediction, events, weights, thresholds, prevalence=prevalence)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            **band("net_benefit", benefit, confidence),
            "treat_all": treat_all(events, weights[:1], thresholds, prevalence)[0],
            "treat_none": 0.0,
            **band("gain", gained, confidence),
            "n": len(events),
            "events": int(events.sum()),
        }
    )


def _worth_of_a_case(events: Marks, weights: Floats, prevalence: float | None) -> tuple[Floats, Floats]:
    """Compute which share (R, 1) of the target population one event, and one non-event, represents."""
    if prevalence is None:
        of_all = ratio(np.ones((len(weights), 1)), weights.sum(axis=1, keepdims=True))
        return of_all, of_all
    shares = np.array([prevalence, 1 - prevalence])
    per_case = ratio(shares, np.stack([weights @ events, weights @ ~events], axis=1))
    return per_case[:, :1], per_case[:, 1:]
