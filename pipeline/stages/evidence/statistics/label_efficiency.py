"""Compute label efficiency: how many labelled patients an arm needs for the AUC of its reference with all of them."""

import numpy as np
import pandas as pd

from pipeline.metrics.bootstrap import estimate_of
from pipeline.stages.evidence.statistics.learning_curves import Curve, compared, curve_of
from pipeline.stages.evidence.statistics.runs import Floats, Runs
from pipeline.stages.evidence.statistics.stratified import Resampled

LABEL_EFFICIENCY = [
    *("recipe", "arm", "reference", "ratio", "lower", "upper"),
    *("patients", "reference_patients", "words"),
]
CHANCE = 0.5
RISE = 1e-9  # slope of the AUC over log patients that is added, so that a plateau is left at its last point


def label_efficiency(runs: Runs, resampled: Resampled) -> pd.DataFrame:
    """Divide the labelled patients of the reference by the number with which the arm is as good.

    The curves of the mean AUC over draws are made monotone (isotonic regression) and interpolated linearly over the
    logarithm of patients, on the sample and on every replicate.

    Parameters
    ----------
    runs : Runs
        The out-of-fold predictions.
    resampled : Resampled

    Returns
    -------
    pandas.DataFrame
        Columns `LABEL_EFFICIENCY`. At a `ratio` of 4 the arm needs a quarter of the patients for the AUC that the
        reference reaches with all. If the arm does not reach it, the ratio is below 1: the share of the arm's patients
        with which the reference is as good as the arm with all. `lower` or `upper` is empty if already the smallest
        fraction suffices, because the curve cannot show how few patients would; `words` says so.
    """
    rows = []
    for recipe, _, arms in compared(runs):
        among = runs.evaluated([key for arm in arms for key in runs.keys_of(recipe, arm)])
        if among.any():
            arm, reference = (curve_of(runs, recipe, name, resampled=resampled, among=among) for name in arms)
            rows.append((recipe, *arms, *efficiency_of(arm, reference, arms[1], resampled.confidence)))
    return pd.DataFrame(rows, columns=LABEL_EFFICIENCY)


def efficiency_of(arm: Curve, reference: Curve, name: str, confidence: float) -> tuple[object, ...]:
    """Compute ratio, lower, upper, patients of the arm, patients of the reference (called `name`), and words."""
    everyone = round(float(reference.patients[-1]), 1)
    nothing = (None, None, None, None, everyone)
    if min(len(arm.patients), len(reference.patients)) < 2:
        return (*nothing, "a learning curve needs two fractions of the patients: add some to evidence.fractions")
    at_all = estimate_of(reference.values[:, -1], confidence)
    if at_all.lower is None or at_all.lower <= CHANCE:
        return (*nothing, f"no evidence that {name} is better than chance with all patients")
    logs, least, most = log_ratios(arm, reference)
    found = estimate_of(logs, confidence)
    if found.value is None or found.lower is None or found.upper is None:
        return (*nothing, "the AUC does not exist in most bootstrap replicates")
    ratio, lower, upper = np.exp([found.value, found.lower, found.upper]).round(6)
    limits = (None if found.lower <= least + RISE else lower, None if found.upper >= most - RISE else upper)
    needed = round(everyone / ratio, 1) if ratio >= everyone / arm.patients[-1] else None
    return (ratio, *limits, needed, everyone, words_of(ratio, found.value <= least + RISE, found.value >= most - RISE))


def words_of(ratio: float, least: bool, most: bool) -> str:
    """Describe the ratio, which is a bound if already the smallest fraction suffices."""
    if most:
        return f"at least {ratio:.2g} times fewer labelled patients: already the smallest fraction suffices"
    if least:
        return (
            f"at least {1 / ratio:.2g} times more labelled patients: already the reference's smallest fraction suffices"
        )
    if 0.95 <= ratio < 1.05:
        return "about as many labelled patients for the same AUC"
    if ratio >= 1:
        return f"{ratio:.2g} times fewer labelled patients for the same AUC"
    return f"{1 / ratio:.2g} times more labelled patients for the same AUC"


def log_ratios(arm: Curve, reference: Curve) -> tuple[Floats, float, float]:
    """Compute the logarithm (1 + R,) of the ratio, and the smallest and largest values that the fractions allow."""
    own, other = np.log(arm.patients), np.log(reference.patients)
    arm_auc, reference_auc = rising(arm.values) + RISE * own, rising(reference.values) + RISE * other
    reached = arm_auc[:, -1] >= reference_auc[:, -1]
    fewer = other[-1] - first_at(arm_auc, own, reference_auc[:, -1])
    more = first_at(reference_auc, other, arm_auc[:, -1]) - own[-1]
    return np.where(reached, fewer, more), float(other[0] - own[-1]), float(other[-1] - own[0])


def rising(values: Floats) -> Floats:
    """Fit the closest non-decreasing curve to each row (R, F), with equal weights (isotonic regression).

    Uses the max-min formula of Barlow et al. 1972, "Statistical inference under order restrictions", theorem 1.4:
    fitted(i) = max over s <= i of min over e >= i of the mean of the values s..e.
    """
    n = values.shape[1]
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    fitted = np.empty_like(values)
    for at in range(n):
        lowest = [
            np.min([(sums[:, end] - sums[:, start]) / (end - start) for end in range(at + 1, n + 1)], axis=0)
            for start in range(at + 1)
        ]
        fitted[:, at] = np.max(lowest, axis=0)
    return fitted


def first_at(curves: Floats, x: Floats, goals: Floats) -> Floats:
    """Find where curves (R, F) over x (F,) first reach their goals (R,), by linear interpolation.

    The first x if the curve starts at or above the goal; NaN if it never reaches it.
    """
    found = np.where(curves[:, 0] >= goals, x[0], np.nan)
    for left in range(len(x) - 1):
        low, high = curves[:, left], curves[:, left + 1]
        within = (low < goals) & (goals <= high)
        step = (goals - low) / np.where(within, high - low, 1)
        found = np.where(within, x[left] + step * (x[left + 1] - x[left]), found)
    return found
