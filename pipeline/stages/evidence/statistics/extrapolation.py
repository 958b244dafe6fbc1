"""Extrapolate learning curves: how many more labelled patients an AUC would need."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.stages.evidence.statistics.learning_curves import Curve, curve_of
from pipeline.stages.evidence.statistics.runs import Floats, Runs
from pipeline.stages.evidence.statistics.stratified import Resampled

EXTRAPOLATION = ["recipe", "arm", "goal", "patients", "more", "lower", "upper", "words"]
EXPONENTS = np.geomspace(0.05, 2, 60)
FEWEST = 3  # points, as many as the curve has parameters
FAR = 10  # times the available patients; beyond that the extrapolation is not reported


class PowerLaws(NamedTuple):
    """Parameters of the curves 1 - AUC = a n^-b + c, one per replicate: all (R,)."""

    a: Floats
    b: Floats
    c: Floats


def extrapolation(runs: Runs, goal: float, resampled: Resampled) -> pd.DataFrame:
    """Extrapolate the learning curve of each arm to an AUC.

    Fits an inverse power law to the points, weighted by the inverse of their variance over replicates, on the sample
    and on every replicate (Figueroa et al. 2012, "Predicting sample size required for classification performance";
    Mukherjee et al. 2003, "Estimating dataset size requirements for classifying DNA microarray data").

    Parameters
    ----------
    runs : Runs
        The out-of-fold predictions.
    goal : float
        The wanted AUC, between 0.5 and 1.
    resampled : Resampled

    Returns
    -------
    pandas.DataFrame
        Columns `EXTRAPOLATION`: labelled `patients` of a training now, and how many `more` are needed. `upper` is
        empty if more than ten times the available patients may be needed, or if the curve may never reach the goal.
    """
    rows = []
    for recipe, arm in runs.arms():
        among = runs.evaluated(runs.keys_of(recipe, arm))
        if among.any():
            curve = curve_of(runs, recipe, arm, resampled=resampled, among=among)
            have = round(float(curve.patients[-1]), 1)
            rows.append((recipe, arm, goal, have, *more_for(curve, goal, resampled.confidence)))
    return pd.DataFrame(rows, columns=EXTRAPOLATION)


def more_for(curve: Curve, goal: float, confidence: float) -> tuple[object, ...]:
    """Compute the number of additional patients that a goal needs, its limits, and words."""
    have = curve.patients[-1]
    if curve.values[0, -1] >= goal:
        return 0, None, None, f"an AUC of {goal:g} is reached already"
    known = curve.values[np.isfinite(curve.values).all(axis=1)]
    if len(curve.patients) < FEWEST or len(known) < len(curve.values) / 2 or not np.isfinite(curve.values[0]).all():
        return None, None, None, "a power law needs an AUC at three or more fractions: see evidence.fractions"
    more = needed(power_laws(curve.patients, 1 - known), 1 - goal) - have
    alpha = (1 - confidence) / 2
    ends = np.quantile(np.maximum(more[1:], 0), [alpha, 1 - alpha], method="closest_observation")
    value, lower, upper = (round(float(end)) if end <= FAR * have else None for end in (max(more[0], 0.0), *ends))
    target = f"an AUC of {goal:g}"
    if np.isinf(more[0]):
        least = f"; at the lower limit it would need {lower} more patients" if lower is not None else ""
        return value, lower, upper, f"the curve levels off below {target}{least}"
    if value is None:
        return value, lower, upper, f"{target} would need more than {FAR} times the available patients: not estimable"
    limits = f", at least {lower}, no upper limit" if upper is None else f" ({lower} to {upper})"
    return value, lower, upper, f"about {value} more labelled patients for {target}{limits}"


def power_laws(patients: Floats, errors: Floats) -> PowerLaws:
    """Fit error = a n^-b + c to each row by weighted least squares, a >= 0, b in [0.05, 2], 0 <= c <= 1.

    For a given exponent the curve is a straight line in n^-b; the exponent with the smallest residual is chosen.

    Parameters
    ----------
    patients : (F,)
    errors : (R, F)
        The points are weighted by the inverse of their variance over rows.
    """
    weights = 1 / np.maximum(errors.var(axis=0), 1e-8)
    weights = weights / weights.sum()
    fits = [line_through((patients / patients[-1]) ** -b, errors, weights) for b in EXPONENTS]
    best, rows = np.argmin([residual for _, _, residual in fits], axis=0), np.arange(len(errors))
    a, c = np.stack([a for a, _, _ in fits])[best, rows], np.stack([c for _, c, _ in fits])[best, rows]
    b = EXPONENTS[best]
    return PowerLaws(a * patients[-1] ** b, b, c)


def line_through(x: Floats, errors: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit error = a x + c with a >= 0 and 0 <= c <= 1; return a, c and the weighted residual sum of squares, all (R,).

    The constrained optimum is the free optimum or lies on a limit, so all of these are tried.
    """
    middle, means = weights @ x, errors @ weights
    slope = ((errors - means[:, None]) * (x - middle)) @ weights / (weights @ (x - middle) ** 2)
    through_0 = np.maximum(errors @ (weights * x) / (weights @ x**2), 0)
    through_1 = np.maximum((errors - 1) @ (weights * x) / (weights @ x**2), 0)
    free = np.maximum(slope, 0)
    lines = [(free, np.clip(means - free * middle, 0, 1)), (through_0, 0 * means), (through_1, 0 * means + 1)]
    residuals = np.stack([((errors - a[:, None] * x - c[:, None]) ** 2) @ weights for a, c in lines])
    best, rows = residuals.argmin(axis=0), np.arange(len(errors))
    a, c = np.stack([a for a, _ in lines])[best, rows], np.stack([c for _, c in lines])[best, rows]
    return a, c, residuals[best, rows]


def needed(laws: PowerLaws, error: float) -> Floats:
    """Solve for the number of patients (R,) at which each curve falls to an error; infinity if it never does."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(error > laws.c, (laws.a / np.maximum(error - laws.c, 0)) ** (1 / laws.b), np.inf)
