"""Learning curves: how good an arm is after a share of the training patients, and how far two arms are apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.discrimination import Labels
from pipeline.stages.evidence.statistics.runs import COMPARISONS, Floats, Marks, Names, Runs
from pipeline.stages.evidence.statistics.stratified import (
    Metric,
    Resampled,
    auc,
    auc_of,
    difference_of,
    log_loss,
    questions,
    replicated,
    within_range,
)

METRICS: dict[str, Metric] = {"auc": auc, "log_loss": log_loss}
LEARNING_CURVE = ["recipe", "arm", "of", "metric", "fraction", "patients", "draws", "value", "lower", "upper", "n"]
CURVE_DIFFERENCES = [
    *("recipe", "comparison", "fractions", "value", "lower", "upper", "minimum_detectable"),
    *("n", "patients", "folds"),
]


@dataclass(frozen=True)
class Curve:
    """A metric of one arm against the number of patients that it was trained on.

    Attributes
    ----------
    fractions, patients : (F,)
        Of the training patients, and how many with labels that is; the smallest first.
    draws : (F,) int
        Random orders of the training patients that were averaged.
    values : (1 + R, F)
        On the sample, then on every replicate.
    """

    fractions: Floats
    patients: Floats
    draws: list[int]
    values: Floats


def curve_of(runs: Runs, recipe: str, arm: str, metric: Metric, resampled: Resampled, among: Marks) -> Curve:
    """Average a metric of some cases (n,) over the draws of each fraction.

    Cases and draws are both drawn again. Draws of the same number are drawn alike at every fraction and of every arm,
    because a draw is the same order of the same patients throughout.
    """
    keys = runs.keys_of(recipe, arm)
    fractions = sorted({key.fraction for key in keys})
    points, patients, draws = [], [], []
    for fraction in fractions:
        own = [key for key in keys if key.fraction == fraction]
        found = np.stack([replicated(runs, key, metric, resampled.weights, among) for key in own], axis=1)
        points.append((found * resampled.shares(len(own))).sum(axis=1))
        patients.append(float(np.mean([runs.labelled[key] for key in own])))
        draws.append(len(own))
    return Curve(np.array(fractions), np.array(patients), draws, np.stack(points, axis=1))


def learning_curve(runs: Runs, classes: Sequence[str], resampled: Resampled) -> pd.DataFrame:
    """Tabulate AUC and log-loss of each arm after each fraction; the AUC of each class against the rest as well.

    Parameters
    ----------
    runs : Runs
        The predictions out of fold.
    classes : sequence of str
        In the order of the columns of `probabilities`.
    resampled : Resampled

    Returns
    -------
    pandas.DataFrame
        Columns `LEARNING_CURVE`. All points of an arm are of the same `n` cases: those that every one of its trainings
        prediction. An arm whose trainings have no fold in common has no row.
    """
    by_class = len(classes) > 2 or runs.labels.ndim == 2
    metrics = {("", name): metric for name, metric in METRICS.items()}
    metrics |= {(name, "auc"): partial(auc_of_class, number) for number, name in enumerate(classes) if by_class}
    rows = []
    for recipe, arm in runs.arms():
        among = runs.evaluated(runs.keys_of(recipe, arm))
        for (of, name), metric in metrics.items() if among.any() else ():
            curve = curve_of(runs, recipe, arm, metric, resampled, among)
            for column, point in enumerate(zip(curve.fractions, curve.patients.round(1), curve.draws, strict=True)):
                found = within_range(estimate_of(curve.values[:, column], resampled.confidence), name)
                rows.append((recipe, arm, of, name, *point, *found.as_json().values(), int(among.sum())))
    return pd.DataFrame(rows, columns=LEARNING_CURVE)


def auc_of_class(number: int, probabilities: Floats, labels: Labels, folds: Names, weights: Floats) -> Floats:
    """Compute the AUC (R,) of one class against the rest, or of one label; NaN where it is not known of any case."""
    asked = [view for view in questions(probabilities, labels) if view.name == str(number)]
    return auc_of(asked[0], folds, weights) if asked else np.full(len(weights), np.nan)


def curve_differences(runs: Runs, resampled: Resampled) -> pd.DataFrame:
    """Compare arms by the mean, over the fractions below 1, of the difference of their AUCs, paired by case and draw.

    Parameters
    ----------
    runs : Runs
        The predictions out of fold.
    resampled : Resampled

    Returns
    -------
    pandas.DataFrame
        Columns `CURVE_DIFFERENCES`, a row for each recipe and comparison of which both arms were trained on a smaller
        fraction of the same folds; positive where the arm is better. `folds` counts them.
    """
    rows = []
    for recipe, comparison, (arm, reference) in compared(runs):
        keys = [[key for key in runs.keys_of(recipe, who) if key.fraction < 1] for who in (arm, reference)]
        both = sorted({key.fraction for key in keys[0]} & {key.fraction for key in keys[1]})
        among = runs.evaluated([key for own in keys for key in own])
        if not both or not among.any():
            continue
        curves = [curve_of(runs, recipe, who, auc, resampled, among) for who in (arm, reference)]
        means = [curve.values[:, np.isin(curve.fractions, both)].mean(axis=1) for curve in curves]
        found = difference_of(means[0] - means[1], resampled.confidence)
        rows.append((recipe, comparison, len(both), *found, *runs.counts(among)))
    return pd.DataFrame(rows, columns=CURVE_DIFFERENCES)


def compared(runs: Runs) -> list[tuple[str, str, tuple[str, str]]]:
    """Name each recipe and comparison of which both arms made predictions, with its arm and its reference."""
    there = runs.arms()
    recipes = dict.fromkeys(recipe for recipe, _ in there)
    return [
        (recipe, comparison, pair)
        for recipe in recipes
        for comparison, pair in COMPARISONS.items()
        if {(recipe, arm) for arm in pair} <= set(there)
    ]
