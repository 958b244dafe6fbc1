"""Cox's proportional hazards: the model behind probes of survival, its recalibration, and absolute risks.

The hazard of a patient is h0(t) exp(log hazard). Ties of event times are treated as Efron did (1977, "The efficiency of
Cox's likelihood function for censored data", section 3).
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.survival.curves import Curve, at_risk_of, leaving_at

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

STEPS, HALVINGS = 100, 30  # of Newton's method, and of one of its steps
CLOSE = 1e-9  # gain in the log-likelihood, as a share of it, at which it ends
SEPARATED = 40.0  # range of log hazards that only features reach which predict every event


def fit_cox(
    features: Floats, times: Floats, events: Marks, penalty: float = 0.0, *, weights: Floats | None = None
) -> Floats:
    """Fit the coefficients that maximise the partial likelihood, by Newton's method.

    Parameters
    ----------
    features : (n, k)
        Centred or not: a shift has no effect.
    times, events : (n,)
    penalty : float
        At least 0; subtracts penalty / 2 times the sum of squared coefficients from the log-likelihood, a sum over
        events. Above 0 it makes more coefficients than patients possible.
    weights : (n,), optional
        At least 0; ones if missing.

    Returns
    -------
    (k,)

    Raises
    ------
    ValueError
        Without events, or if there is no maximum: an event is always predicted, and the penalty is 0.
    """
    if not events.any():
        raise ValueError("no events: the partial likelihood is constant")
    order = np.argsort(times, kind="stable")
    known = np.ones(len(times)) if weights is None else weights
    fitted = _Likelihood(features[order] - features.mean(axis=0), times[order], events[order], known[order])
    found, value = np.zeros(features.shape[1]), fitted.value(np.zeros(features.shape[1]), penalty)
    for _ in range(STEPS):
        gradient, hessian = fitted.derivatives(found, penalty)
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        for _ in range(HALVINGS):
            better = fitted.value(found + step, penalty)
            if better >= value:
                break
            step = step / 2
        else:
            return found
        found, gain, value = found + step, better - value, better
        if penalty == 0 and np.ptp(fitted.features @ found) > SEPARATED:
            break
        if gain <= CLOSE * abs(value):
            return found
    raise ValueError("the partial likelihood has no maximum; a penalty above 0 gives one")


class _Likelihood:
    """The partial likelihood of patients in ascending order of their times."""

    def __init__(self, features: Floats, times: Floats, events: Marks, weights: Floats) -> None:
        self.features, self.weights, self.events = features, weights, events
        self.first = np.searchsorted(times, times[events], side="left")  # of those at risk at each event
        self.rows = np.flatnonzero(events)
        steps, self.tie, ties = np.unique(times[events], return_inverse=True, return_counts=True)
        rank = np.arange(len(self.rows)) - np.searchsorted(times[events], steps)[self.tie]
        self.part = rank / ties[self.tie]  # of the tied events that are gone when this one happens
        self.term = (np.bincount(self.tie, weights[self.rows]) / ties)[self.tie]
        self.last = np.searchsorted(times[events], times, side="right")  # events at or before each time

    def value(self, coefficients: Floats, penalty: float) -> float:
        log_hazard = self.features @ coefficients
        shift = log_hazard.max()
        total = self._sums(self.weights * np.exp(log_hazard - shift))
        gained = self.weights[self.rows] @ log_hazard[self.rows] - self.term @ (np.log(total) + shift)
        return float(gained - penalty / 2 * (coefficients @ coefficients))

    def derivatives(self, coefficients: Floats, penalty: float) -> tuple[Floats, Floats]:
        """Compute the gradient (k,) of the value, and the negative of its matrix of second derivatives (k, k)."""
        log_hazard = self.features @ coefficients
        hazard = self.weights * np.exp(log_hazard - log_hazard.max())
        total = self._sums(hazard)
        means = self._sums(hazard[:, None] * self.features) / total[:, None]
        share = hazard * self._seen(self.term / total)
        tied = np.bincount(self.tie, self.term * self.part / total)[self.tie]
        share[self.rows] -= hazard[self.rows] * tied
        gradient = self.weights[self.rows] @ self.features[self.rows] - self.term @ means - penalty * coefficients
        spread = (self.features * share[:, None]).T @ self.features - (means * self.term[:, None]).T @ means
        return gradient, spread + penalty * np.eye(len(coefficients))

    def _sums(self, values: Floats) -> Floats:
        """Sum values (n, ...) over those at risk at each event (events, ...), less the tied ones that are gone."""
        at_risk = np.cumsum(values[::-1], axis=0)[::-1][self.first]
        tied = np.zeros((self.tie.max() + 1, *values.shape[1:]))
        np.add.at(tied, self.tie, values[self.rows])
        part = self.part.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(at_risk - part * tied[self.tie])

    def _seen(self, of_events: Floats) -> Floats:
        """Sum a number of each event over the events at or before the time of each patient (n,)."""
        return np.asarray(np.concatenate([[0.0], np.cumsum(of_events)])[self.last])


def baseline_hazard(log_hazard: Floats, times: Floats, events: Marks, weights: Floats | None = None) -> Curve:
    """Estimate the cumulative hazard of a patient whose log hazard is 0 (Breslow 1972, discussion of Cox).

    Parameters
    ----------
    log_hazard, times, events : (n,)
    weights : (n,), optional

    Returns
    -------
    Curve
        It starts at 0 and ascends.
    """
    known = np.ones(len(times)) if weights is None else weights
    steps = np.unique(times[events])
    died = leaving_at(times, steps, (known * events)[None])[0]
    at_risk = at_risk_of(times, steps, (known * np.exp(log_hazard))[None])[0]
    return Curve(steps, np.cumsum(died / at_risk), start=0.0)


def survival_at(baseline: Curve, log_hazard: Floats, horizons: Floats) -> Floats:
    """Predict the probability (n, h) that a patient has no event until each horizon (h,)."""
    return np.asarray(np.exp(-baseline.at(horizons) * np.exp(log_hazard)[:, None]))
