"""Accuracy of predicted survival probabilities: Brier score and calibration at a horizon, slope over all times.

Arrays are predicted probabilities of no event until the horizon (n,), times and events (n,), and weights (R, n); each
metric gives one value per row of the weights (R,).
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.discrimination import ratio
from pipeline.metrics.survival.cox import fit_cox
from pipeline.metrics.survival.curves import survival_steps, uncensored_before
from pipeline.metrics.survival.discrimination import inverse_weights

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]


def brier(survival: Floats, times: Floats, events: Marks, weights: Floats, *, horizon: float) -> Floats:
    """Compute the Brier score at a horizon: the mean squared error of the probability of no event until then.

    Patients who were censored before have no part; the others are weighted by the inverse probability of not being
    censored (Graf et al. 1999, "Assessment and comparison of prognostic classification schemes for survival data",
    equation 3). 0 is perfect; .25 is a constant .5. NaN where nobody is observed beyond the horizon: events alone would
    count then.
    """
    return _briers(survival[:, None], times, events, weights, horizons=np.array([horizon]))[:, 0]


def integrated_brier(survival: Floats, times: Floats, events: Marks, weights: Floats, *, horizons: Floats) -> Floats:
    """Average the Brier score between the first and the last horizon, by the trapezoidal rule.

    `survival` are probabilities (n, h) at each of at least two horizons (h,), which ascend.
    """
    scores = _briers(survival, times, events, weights, horizons=horizons)
    return np.asarray(np.trapezoid(scores, horizons, axis=1) / (horizons[-1] - horizons[0]))


def observed_expected(survival: Floats, times: Floats, events: Marks, weights: Floats, *, horizon: float) -> Floats:
    """Compute the observed risk until a horizon, by Kaplan and Meier, divided by the mean predicted risk; 1 is right.

    Above 1 the model predicts too few events (calibration in the large; van Houwelingen 2000, "Validation, calibration,
    revision and combination of prognostic survival models"). NaN where nobody is observed beyond the horizon.
    """
    steps, values = survival_steps(times, events, weights)
    padded = np.concatenate([np.ones((len(weights), 1)), values], axis=1)
    observed = 1 - padded[:, np.searchsorted(steps, horizon, side="right")]
    found = ratio(observed, weights @ (1 - survival) / weights.sum(axis=1))
    return np.where(weights @ (times > horizon) > 0, found, np.nan)


def calibration_slope(log_hazard: Floats, times: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the coefficient of the log hazard in a Cox model of these patients: 1 is right, below 1 too extreme.

    Royston and Altman 2013, "External validation of a Cox prognostic model", method 1. NaN where it cannot be fitted.
    """
    return np.array([_slope(log_hazard, times, events, row) for row in weights])


def _slope(log_hazard: Floats, times: Floats, events: Marks, weights: Floats) -> float:
    kept = weights > 0
    if not events[kept].any() or np.ptp(log_hazard[kept]) <= 0:
        return float("nan")
    try:
        return float(fit_cox(log_hazard[kept, None], times[kept], events[kept], weights=weights[kept])[0])
    except ValueError:
        return float("nan")


def _briers(survival: Floats, times: Floats, events: Marks, weights: Floats, *, horizons: Floats) -> Floats:
    """Compute the Brier score (R, h) of probabilities (n, h) at each horizon (h,)."""
    of_events = inverse_weights(times, events, weights, events)
    until = uncensored_before(times, events, weights, np.nextafter(horizons, np.inf))
    total, scores = weights.sum(axis=1), np.full(until.shape, np.nan)
    for number, horizon in enumerate(horizons):
        alive = times > horizon
        with np.errstate(divide="ignore", invalid="ignore"):
            of_alive = np.where(until[:, [number]] > 0, weights * alive / until[:, [number]], 0.0)
        by_case = np.where(times <= horizon, of_events, of_alive)
        score = ratio(by_case @ np.square(alive - survival[:, number]), total)
        scores[:, number] = np.where(weights @ alive > 0, score, np.nan)
    return scores
