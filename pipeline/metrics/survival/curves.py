"""Survival curves of groups of patients: Kaplan-Meier, its interval, the log-rank test and the follow-up.

Times (n,) are until the event or until the end of observation, in one unit and above 0; `events` (n,) tells which of
the two. At equal times events come before censoring.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import chi2, norm

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """A step function of time that is continuous from the right.

    Attributes
    ----------
    times : (k,)
        Ascending; here the steps are.
    values : (k,)
        From each of these times on.
    start : float
        Before the first of them: 1 of a survival curve, 0 of a cumulative hazard.
    """

    times: Floats
    values: Floats
    start: float = 1.0

    def at(self, when: Floats) -> Floats:
        """Read the curve at these times, of any shape; after the last step it stays as it is."""
        steps = np.concatenate([[self.start], self.values])
        return np.asarray(steps[np.searchsorted(self.times, when, side="right")])

    def first_at_or_below(self, level: float) -> float | None:
        """Find the first time at which the curve is at or below a level, None if it never is; .5 gives the median."""
        below = np.flatnonzero(self.values <= level + 1e-12)
        return float(self.times[below[0]]) if len(below) else None


def kaplan_meier(times: Floats, events: Marks, weights: Floats | None = None) -> Curve:
    """Estimate the share of patients without an event at each time (Kaplan and Meier 1958, equation 2b).

    Parameters
    ----------
    times, events : (n,)
    weights : (n,), optional
        At least 0; ones if missing.
    """
    rows = np.ones((1, len(times))) if weights is None else weights[None]
    steps, values = survival_steps(times, events, rows)
    return Curve(steps, values[0])


def kaplan_meier_interval(times: Floats, events: Marks, confidence: float) -> tuple[Curve, Curve]:
    """Compute pointwise limits of the Kaplan-Meier curve by Greenwood's variance of log(-log S).

    Kalbfleisch and Prentice 2002, "The statistical analysis of failure time data", section 1.4. Limits lie between 0
    and 1, and are NaN where the curve is 0.
    """
    curve = kaplan_meier(times, events)
    everyone = np.ones((1, len(times)))
    at_risk = at_risk_of(times, curve.times, everyone)[0]
    died = leaving_at(times, curve.times, everyone * events)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(died / (at_risk * (at_risk - died))) / np.log(curve.values) ** 2
        reach = np.exp(norm.ppf(0.5 + confidence / 2) * np.sqrt(variance))
        lower, upper = curve.values**reach, curve.values ** (1 / reach)
    gone = curve.values <= 0
    return Curve(curve.times, np.where(gone, np.nan, lower)), Curve(curve.times, np.where(gone, np.nan, upper))


def survival_steps(times: Floats, events: Marks, weights: Floats) -> tuple[Floats, Floats]:
    """Estimate Kaplan-Meier curves for many weightings of the same patients.

    Parameters
    ----------
    times, events : (n,)
    weights : (R, n), at least 0

    Returns
    -------
    steps : (k,)
        Times with an event, ascending.
    values : (R, k)
        1 at a step where a weighting has nobody at risk, if the curve did not fall before.
    """
    return _product_limit(times, events, weights, at_risk_of(times, np.unique(times[events]), weights))


def censoring_steps(times: Floats, events: Marks, weights: Floats) -> tuple[Floats, Floats]:
    """Estimate the curves (R, k) of not being censored, with censoring in the place of the event.

    Patients with an event at the same time have left before.
    """
    censored = ~events
    here = np.unique(times[censored])
    left = leaving_at(times, here, weights * events)
    return _product_limit(times, censored, weights, at_risk_of(times, here, weights) - left)


def uncensored_before(times: Floats, events: Marks, weights: Floats, when: Floats) -> Floats:
    """Estimate the probability (R, m) of not being censored before each of these times (m,), G(t-).

    It is the denominator of weights by inverse probability of censoring (Graf et al. 1999; Uno et al. 2011), which
    assume that censoring does not depend on the features.
    """
    steps, values = censoring_steps(times, events, weights)
    padded = np.concatenate([np.ones((len(weights), 1)), values], axis=1)
    return np.asarray(padded[:, np.searchsorted(steps, when, side="left")])


def at_risk_of(times: Floats, steps: Floats, weights: Floats) -> Floats:
    """Sum the weights (R, k) of those who are under observation just before each of these times (k,)."""
    order = np.argsort(times, kind="stable")
    after = np.cumsum(weights[:, order[::-1]], axis=1)[:, ::-1]
    padded = np.concatenate([after, np.zeros((len(weights), 1))], axis=1)
    return np.asarray(padded[:, np.searchsorted(times[order], steps, side="left")])


def leaving_at(times: Floats, steps: Floats, weights: Floats) -> Floats:
    """Sum the weights (R, k) of those whose time is one of these steps (k,), which ascend and are distinct."""
    rows = np.flatnonzero(np.isin(times, steps))
    places = (rows, np.searchsorted(steps, times[rows]))
    chosen = sparse.csr_array((np.ones(len(rows)), places), shape=(len(times), len(steps)))
    return np.asarray(weights @ chosen)


def logrank(times: Floats, events: Marks, groups: NDArray[np.int64]) -> tuple[float, float]:
    """Test whether groups have the same survival curve (Mantel 1966; Peto and Peto 1972).

    Parameters
    ----------
    times, events : (n,)
    groups : (n,)
        Numbers of at least two groups.

    Returns
    -------
    statistic, p : float
        Chi-square with one degree of freedom less than groups; NaN without events.
    """
    steps = np.unique(times[events])
    members = (np.unique(groups)[:, None] == groups).astype(float)
    at_risk, died = at_risk_of(times, steps, members), leaving_at(times, steps, members * events)
    everyone, all_died = at_risk.sum(axis=0), died.sum(axis=0)
    share = at_risk / everyone
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(everyone > 1, all_died * (everyone - all_died) / (everyone - 1), 0.0)
    covariance = np.diag((share * spread).sum(axis=1)) - (share * spread) @ share.T
    excess = (died - share * all_died).sum(axis=1)[:-1]
    if not len(steps) or np.linalg.matrix_rank(covariance[:-1, :-1]) < len(excess):
        return float("nan"), float("nan")
    statistic = float(excess @ np.linalg.solve(covariance[:-1, :-1], excess))
    return statistic, float(chi2.sf(statistic, len(excess)))


def median_follow_up(times: Floats, events: Marks) -> float | None:
    """Estimate the median time of observation by the curve of censoring (Schemper and Smith 1996); None without one."""
    steps, values = censoring_steps(times, events, np.ones((1, len(times))))
    return Curve(steps, values[0]).first_at_or_below(0.5)


def _product_limit(times: Floats, marked: Marks, weights: Floats, at_risk: Floats) -> tuple[Floats, Floats]:
    steps = np.unique(times[marked])
    left = leaving_at(times, steps, weights * marked)
    with np.errstate(divide="ignore", invalid="ignore"):
        stay = np.where(at_risk > 0, 1 - left / at_risk, 1.0)
    return steps, np.cumprod(np.clip(stay, 0, 1), axis=1)
