"""Cox regression with a ridge penalty on frozen features, for the linear probe.

The targets are those of `tasks`: the time of an event, or minus the time of a censored case. Ties are Breslow's (1974).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]


def partial_likelihood(hazard: Floats, targets: NDArray[np.floating]) -> tuple[float, Floats]:
    """Compute the negative log partial likelihood of log hazards (n,), and its gradient (n,).

    sum_{events i} ln sum_{t_j >= t_i} exp(h_j) - h_i (Cox 1972, "Regression models and life-tables").
    """
    time, event = np.abs(targets[:, 0]).astype(np.float64), targets[:, 0] > 0
    order = np.argsort(-time, kind="stable")
    time, event, sorted_hazard = time[order], event[order], hazard[order]
    highest = float(hazard.max(initial=0.0))
    risk = np.exp(sorted_hazard - highest)
    last = np.searchsorted(-time, -time, side="right") - 1  # the last case with the same time: all of them are at risk
    at_risk = np.cumsum(risk)[last]
    loss = float((np.log(at_risk[event]) + highest - sorted_hazard[event]).sum())
    first = np.searchsorted(-time, -time, side="left")
    share = np.concatenate([np.cumsum((event / at_risk)[::-1])[::-1], [0.0]])  # of the events at this time or before
    gradient = np.empty(len(hazard))
    gradient[order] = risk * share[first] - event
    return loss, gradient


def fit_cox(features: Floats, targets: NDArray[np.floating], c: float) -> Floats:
    """Minimise C times the negative log partial likelihood + |w|^2 / 2 over weights (width,), by L-BFGS.

    Parameters
    ----------
    features : (n, width)
        Standardised.
    targets : (n, 1)
    c : float
        C, as scikit-learn's `LogisticRegression` takes it.
    """

    def objective(weight: Floats) -> tuple[float, Floats]:
        loss, gradient = partial_likelihood(features @ weight, targets)
        return c * loss + 0.5 * float(weight @ weight), c * features.T @ gradient + weight

    begin = np.zeros(features.shape[1])
    found = minimize(objective, begin, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    return np.asarray(found, dtype=np.float64)
