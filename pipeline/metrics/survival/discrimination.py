"""Discrimination of times until an event: whether a higher hazard goes with an earlier event.

Arrays are log hazards, or any score that rises with the risk (n,), times and events (n,), and weights (R, n), one row
for each replicate of a bootstrap; each metric gives one value per row (R,), NaN where a row has no comparable pair.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.discrimination import ratio, roc_auc
from pipeline.metrics.survival.curves import uncensored_before

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

BLOCK = 256  # events whose pairs are compared at once


def harrell_c(log_hazard: Floats, times: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute Harrell's C: the share of comparable pairs in which the earlier event has the higher hazard.

    A pair is comparable if the earlier time is an event; equal hazards count half (Harrell et al. 1996, "Multivariable
    prognostic models", section 5.5). With much censoring it depends on who was censored: see `uno_c`.
    """
    return _concordance(log_hazard, times, events, weights, of_events=weights[:, events], counted=events)


def uno_c(log_hazard: Floats, times: Floats, events: Marks, weights: Floats, *, horizon: float) -> Floats:
    """Compute Uno's C up to a horizon: pairs are weighted by the inverse probability of censoring, squared.

    It does not depend on the censoring, if censoring does not depend on the features (Uno et al. 2011, "On the
    C-statistics for evaluating overall adequacy of risk prediction procedures with censored survival data", equation
    6). Events at the horizon or later have no part.
    """
    counted = events & (times < horizon)
    uncensored = uncensored_before(times, events, weights, times[counted])
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(uncensored > 0, weights[:, counted] / uncensored**2, 0.0)
    return _concordance(log_hazard, times, events, weights, of_events=inverse, counted=counted)


def dynamic_auc(log_hazard: Floats, times: Floats, events: Marks, weights: Floats, *, horizon: float) -> Floats:
    """Compute the AUC of events until the horizon against patients without one until then.

    The cumulative, dynamic AUC with weights by inverse probability of censoring (Uno et al. 2007, "Evaluating
    prediction rules for t-year survivors with censored regression models"). Patients censored before the horizon have
    no part.
    """
    happened = events & (times <= horizon)
    known = happened | (times > horizon)
    by_case = np.where(times > horizon, weights, inverse_weights(times, events, weights, happened))
    return roc_auc(log_hazard[known], happened[known], by_case[:, known])


def inverse_weights(times: Floats, events: Marks, weights: Floats, of: Marks) -> Floats:
    """Divide the weights (R, n) of marked patients by their probability of not being censored before; 0 for others."""
    found = np.zeros_like(weights)
    uncensored = uncensored_before(times, events, weights, times[of])
    with np.errstate(divide="ignore", invalid="ignore"):
        found[:, of] = np.where(uncensored > 0, weights[:, of] / uncensored, 0.0)
    return found


def _concordance(
    log_hazard: Floats, times: Floats, events: Marks, weights: Floats, *, of_events: Floats, counted: Marks
) -> Floats:
    """Sum over the pairs of a counted event and a later time the product of their weights."""
    agree, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    rows = np.flatnonzero(counted)
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK, None]
        later = (times > times[some]) | ((times == times[some]) & ~events)
        right = later * ((log_hazard[some] > log_hazard) + 0.5 * (log_hazard[some] == log_hazard))
        here = of_events[:, start : start + BLOCK]
        agree += ((here @ right) * weights).sum(axis=1)
        pairs += ((here @ later.astype(float)) * weights).sum(axis=1)
    return ratio(agree, pairs)
