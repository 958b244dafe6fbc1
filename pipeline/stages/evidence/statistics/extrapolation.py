"""How many more labelled patients an AUC would take, if the learning curve goes on as it began."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.stages.evidence.statistics.learning_curves import Curve, curve_of
from pipeline.stages.evidence.statistics.runs import Floats, Runs
from pipeline.stages.evidence.statistics.stratified import Resampled, auc

EXTRAPOLATION = ["recipe", "arm", "goal", "patients", "more", "lower", "upper", "words"]
EXPONENTS = np.geomspace(0.05, 2, 60)
FEWEST = 3  # points, as many as the curve has unknowns
FAR = 10  # times the patients at hand: further than that a curve tells nothing


class PowerLaws(NamedTuple):
    """Curves 1 - AUC = a n^-b + c, one for each replicate: all (R,)."""

    a: Floats
    b: Floats
    c: Floats


def extrapolation(runs: Runs, goal: float, resampled: Resampled) -> pd.DataFrame:
    """Extrapolate the learning curve of each arm to an AUC.

    An inverse power law, fitted to the points by the inverse of their variance over replicates, on the sample and on
    every replicate (Figueroa et al. 2012, "Predicting sample size required for classification performance"; Mukherjee
    et al. 2003, "Estimating dataset size requirements for classifying DNA microarray data").

    Parameters
    ----------
    runs : Runs
        The predictions out of fold.
    goal : float
        The AUC that is wished for, above 0.5 and below 1.
    resampled : Resampled

    Returns
    -------
    pandas.DataFrame
        Columns `EXTRAPOLATION`: labelled `patients` of a training now, and how many `more` it takes. `upper` is empty
        where it may take more than ten times as many as there are, or where the goal may lie beyond the curve.
    """
    rows = []
    for recipe, arm in runs.arms():
        among = runs.evaluated(runs.keys_of(recipe, arm))
        if among.any():
            curve = curve_of(runs, recipe, arm, auc, resampled, among)
            have = round(float(curve.patients[-1]), 1)
            rows.append((recipe, arm, goal, have, *more_for(curve, goal, resampled.confidence)))
    return pd.DataFrame(rows, columns=EXTRAPOLATION)


def more_for(curve: Curve, goal: float, confidence: float) -> tuple[object, ...]:
    """Give the patients that a goal takes beyond those at hand, the limits of their number, and words."""
    have = curve.patients[-1]
    if curve.values[0, -1] >= goal:
        return 0, None, None, f"an AUC of {goal:g} is reached already"
    known = curve.values[np.isfinite(curve.values).all(axis=1)]
    if len(curve.patients) < FEWEST or len(known) < len(curve.values) / 2 or not np.isfinite(curve.values[0]).all():
        return None, None, None, "a power law takes an AUC at three fractions or more: see evidence.fractions"
    more = needed(power_laws(curve.patients, 1 - known), 1 - goal) - have
    tail = (1 - confidence) / 2
    ends = np.quantile(np.maximum(more[1:], 0), [tail, 1 - tail], method="closest_observation")
    value, lower, upper = (round(float(end)) if end <= FAR * have else None for end in (max(more[0], 0.0), *ends))
    return value, lower, upper, words_of(value, lower, upper, goal, np.isinf(more[0]))


def words_of(value: int | None, lower: int | None, upper: int | None, goal: float, never: bool) -> str:
    """Say what the curve tells, and what it does not."""
    if never:
        fewest = f"; if at all, with {lower} more or beyond" if lower is not None else ""
        return f"the curve levels off below an AUC of {goal:g}{fewest}"
    if value is None:
        return f"an AUC of {goal:g} would take more than {FAR} times the patients at hand: too far to tell"
    if upper is None:
        return f"about {value} more labelled patients for an AUC of {goal:g}, at least {lower}: no upper limit is known"
    return f"about {value} more labelled patients for an AUC of {goal:g} ({lower} to {upper})"


def power_laws(patients: Floats, errors: Floats) -> PowerLaws:
    """Fit error = a n^-b + c to each row by weighted least squares, a >= 0, b in [0.05, 2], 0 <= c <= 1.

    For each exponent the other two are a straight line; the exponent that leaves the least is taken.

    Parameters
    ----------
    patients : (F,)
    errors : (R, F)
        Their variance over rows weighs the points.
    """
    weights = 1 / np.maximum(errors.var(axis=0), 1e-8)
    weights = weights / weights.sum()
    fits = [line_through((patients / patients[-1]) ** -b, errors, weights) for b in EXPONENTS]
    best = np.argmin([left for _, _, left in fits], axis=0)
    a, c = (np.stack(column)[best, np.arange(len(errors))] for column in list(zip(*fits, strict=True))[:2])
    b = EXPONENTS[best]
    return PowerLaws(a * patients[-1] ** b, b, c)


def line_through(x: Floats, errors: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit error = a x + c with a >= 0 and 0 <= c <= 1; also give the weighted squares (R,) that it leaves.

    The best line within limits is the best one, or else lies on a limit: all of them are tried.
    """
    middle, means = weights @ x, errors @ weights
    slope = ((errors - means[:, None]) * (x - middle)) @ weights / (weights @ (x - middle) ** 2)
    through_0 = np.maximum(errors @ (weights * x) / (weights @ x**2), 0)
    through_1 = np.maximum((errors - 1) @ (weights * x) / (weights @ x**2), 0)
    free = np.maximum(slope, 0)
    lines = [(free, np.clip(means - free * middle, 0, 1)), (through_0, 0 * means), (through_1, 0 * means + 1)]
    left = np.stack([((errors - a[:, None] * x - c[:, None]) ** 2) @ weights for a, c in lines])
    best, rows = left.argmin(axis=0), np.arange(len(errors))
    a, c = (np.stack(column)[best, rows] for column in zip(*lines, strict=True))
    return a, c, left[best, rows]


def needed(laws: PowerLaws, error: float) -> Floats:
    """Solve for the patients (R,) at which each curve falls to an error; infinity where it never does."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(error > laws.c, (laws.a / np.maximum(error - laws.c, 0)) ** (1 / laws.b), np.inf)
