"""Whether acting on the predictions does more good than harm: net benefit and the decision curve.

Who acts from a probability t upwards holds one event found to be worth (1 - t) / t false alarms (Vickers and Elkin
2006, "Decision curve analysis", Medical Decision Making 26). As in `metrics`, weights are (R, n) and each metric is
computed for all of their rows at once.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bands import band
from pipeline.metrics.discrimination import Floats, ratio

Marks = NDArray[np.bool_]


def net_benefit(
    prediction: Floats, events: Marks, weights: Floats, thresholds: Floats, prevalence: float | None = None
) -> Floats:
    """Net benefit: true positives / n - false positives / n * t / (1 - t).

    Parameters
    ----------
    prediction : (n,)
        Probabilities. One that equals the threshold counts as positive.
    events : (n,) bool
    weights : (R, n), at least 0
    thresholds : (T,)
        Probabilities from 0 to below 1 from which one would act.
    prevalence : float, optional
        The share of events where the predictions would be used, for a sample that was drawn by outcome (case-control).
        Events and non-events are then weighted to it; the predictions are taken as they are.

    Returns
    -------
    (R, T)
        In events found per case: the prevalence at most. NaN where a weighting leaves no case; with `prevalence`,
        where it leaves no event or no non-event.

    Raises
    ------
    ValueError
        If a threshold is below 0 or not below 1.
    """
    if (thresholds < 0).any() or (thresholds >= 1).any():
        raise ValueError("thresholds: give probabilities from 0 to below 1")
    called = prediction[:, None] >= thresholds
    hits, false_alarms = weights @ (called & events[:, None]), weights @ (called & ~events[:, None])
    per_event, per_other = _worth_of_a_case(events, weights, prevalence)
    return per_event * hits - per_other * false_alarms * thresholds / (1 - thresholds)


def treat_all(events: Marks, weights: Floats, thresholds: Floats, prevalence: float | None = None) -> Floats:
    """Net benefit (R, T) of acting on every case; that of acting on none is 0."""
    return net_benefit(np.ones(len(events)), events, weights, thresholds, prevalence)


def gain(
    prediction: Floats, events: Marks, weights: Floats, thresholds: Floats, prevalence: float | None = None
) -> Floats:
    """Net benefit (R, T) beyond that of the better way without predictions: acting on every case, or on none.

    The better one is found anew for each weighting, so that its choice is part of the interval; near the prevalence,
    where both are equal, the gain is told a little too low rather than too high.
    """
    blind = np.maximum(treat_all(events, weights, thresholds, prevalence), 0)
    return net_benefit(prediction, events, weights, thresholds, prevalence) - blind


def decision_curve(
    prediction: Floats,
    events: Marks,
    weights: Floats,
    thresholds: Floats,
    confidence: float,
    prevalence: float | None = None,
) -> pd.DataFrame:
    """Tabulate the decision curve, a row per threshold.

    Parameters
    ----------
    prediction, events, weights, thresholds, prevalence
        As `net_benefit` takes them; the thresholds are those stated before the cases were seen.
    weights : (1 + R, n)
        As `bootstrap.cluster_weights` gives them.
    confidence : float
        Level of the intervals, e.g. 0.95; they hold threshold by threshold.

    Returns
    -------
    pandas.DataFrame
        Columns `threshold`, `net_benefit`, `treat_all`, `treat_none`, `gain` (paired, as `gain` computes it), `n`,
        `events`; `net_benefit` and `gain` with `_lower` and `_upper`.
    """
    known = (events, weights, thresholds, prevalence)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            **band("net_benefit", net_benefit(prediction, *known), confidence),
            "treat_all": treat_all(events, weights[:1], thresholds, prevalence)[0],
            "treat_none": 0.0,
            **band("gain", gain(prediction, *known), confidence),
            "n": len(events),
            "events": int(events.sum()),
        }
    )


def _worth_of_a_case(events: Marks, weights: Floats, prevalence: float | None) -> tuple[Floats, Floats]:
    """Give what share (R, 1) of those on whom the predictions are used one event, and one other case, stands for."""
    if prevalence is None:
        of_all = ratio(np.ones((len(weights), 1)), weights.sum(axis=1, keepdims=True))
        return of_all, of_all
    shares = np.array([prevalence, 1 - prevalence])
    per_case = ratio(shares, np.stack([weights @ events, weights @ ~events], axis=1))
    return per_case[:, :1], per_case[:, 1:]
