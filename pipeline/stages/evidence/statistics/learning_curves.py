"""Compute learning curves over the number of training patients, and the differences between experimental arms."""

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
    """A metric of one arm as a function of the number of training patients.

    Attributes
    ----------
    fractions, patients : (F,)
        Fractions of the training patients, ascending, and the number of labelled patients at each.
    draws : (F,) int
        Number of random orders of the training patients that were averaged.
    values : (1 + R, F)
        On the sample, then on every replicate.
    """

    fractions: Floats
    patients: Floats
    draws: list[int]
    values: Floats


def curve_of(runs: Runs, recipe: str, arm: str, *, metric: Metric = auc, resampled: Resampled, among: Marks) -> Curve:
    """Average a metric of some cases (n,) over the draws at each fraction.

    Both cases and draws are resampled. A draw is one order of the training patients, so the same draws are resampled
    at every fraction and for every arm.
    """
    keys = runs.keys_of(recipe, arm)
    fractions = sorted({key.fraction for key in keys})
    points, patients, draws = [], [], []
    for fraction in fractions:
        own = [key for key in keys if key.fraction == fraction]
        each = [replicated(runs, key, metric=metric, weights=resampled.weights, among=among) for key in own]
        found = np.stack(each, axis=1)
        points.append((found * resampled.shares(len(own))).sum(axis=1))
        patients.append(float(np.mean([runs.labelled[key] for key in own])))
        draws.append(len(own))
    return Curve(np.array(fractions), np.array(patients), draws, np.stack(points, axis=1))


def learning_curve(runs: Runs, classes: Sequence[str], resampled: Resampled) -> pd.DataFrame:
    """Tabulate AUC and log-loss of each arm at each fraction, and the one-versus-rest AUC of each class.

    Parameters
    ----------
    runs : Runs
        The out-of-fold predictions.
    classes : sequence of str
        In the order of the columns of `probabilities`.
    resampled : Resampled

    Returns
    -------
    pandas.DataFrame
        Columns `LEARNING_CURVE`. All points of an arm use the same `n` cases, those that all its trainings predict.
        An arm whose trainings have no fold in common has no row.
    """
    by_class = len(classes) > 2 or runs.labels.ndim == 2
    metrics = {("", name): metric for name, metric in METRICS.items()}
    metrics |= {(name, "auc"): partial(auc_of_class, number) for number, name in enumerate(classes) if by_class}
    rows = []
    for recipe, arm in runs.arms():
        among = runs.evaluated(runs.keys_of(recipe, arm))
        for (of, name), metric in metrics.items() if among.any() else ():
            curve = curve_of(runs, recipe, arm, metric=metric, resampled=resampled, among=among)
            for column, point in enumerate(zip(curve.fractions, curve.patients.round(1), curve.draws, strict=True)):
                found = within_range(estimate_of(curve.values[:, column], resampled.confidence), name)
                rows.append((recipe, arm, of, name, *point, *found.as_json().values(), int(among.sum())))
    return pd.DataFrame(rows, columns=LEARNING_CURVE)


def auc_of_class(number: int, probabilities: Floats, labels: Labels, folds: Names, weights: Floats) -> Floats:
    """Compute the AUC (R,) of one class against the rest, or of one label; NaN where it is not known of any case."""
    asked = [one for one in questions(probabilities, labels) if one.name == str(number)]
    return auc_of(asked[0], folds, weights) if asked else np.full(len(weights), np.nan)


def curve_differences(runs: Runs, resampled: Resampled) -> pd.DataFrame:
    """Compare arms by the difference of their AUCs, averaged over the fractions below 1, paired by case and draw.

    Parameters
    ----------
    runs : Runs
        The out-of-fold predictions.
    resampled : Resampled

    Returns
    -------
    pandas.DataFrame
        Columns `CURVE_DIFFERENCES`, one row for each recipe and comparison whose arms were both trained on a common
        fraction below 1 in the same folds; positive if the arm is better. `folds` counts these folds.
    """
    rows = []
    for recipe, comparison, (arm, reference) in compared(runs):
        keys = [[key for key in runs.keys_of(recipe, who) if key.fraction < 1] for who in (arm, reference)]
        both = sorted({key.fraction for key in keys[0]} & {key.fraction for key in keys[1]})
        among = runs.evaluated([key for own in keys for key in own])
        if not both or not among.any():
            continue
        curves = [curve_of(runs, recipe, who, resampled=resampled, among=among) for who in (arm, reference)]
        means = [curve.values[:, np.isin(curve.fractions, both)].mean(axis=1) for curve in curves]
        found = difference_of(means[0] - means[1], resampled.confidence)
        rows.append((recipe, comparison, len(both), *found, *runs.counts(among)))
    return pd.DataFrame(rows, columns=CURVE_DIFFERENCES)


def compared(runs: Runs) -> list[tuple[str, str, tuple[str, str]]]:
    """List each recipe and comparison with predictions of both arms: recipe, comparison, (arm, reference)."""
    there = runs.arms()
    recipes = dict.fromkeys(recipe for recipe, _ in there)
    return [
        (recipe, comparison, pair)
        for recipe in recipes
        for comparison, pair in COMPARISONS.items()
        if {(recipe, arm) for arm in pair} <= set(there)
    ]
