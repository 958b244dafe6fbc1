"""Coverage of conformal sets, evaluated on patients whose cases did not set the thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline.metrics.bootstrap import Estimate, estimate
from pipeline.metrics.conformal import (
    ABSENT_OR_PRESENT,
    EVERYONE,
    By,
    Floats,
    Ints,
    Marks,
    Names,
    Thresholds,
    conformal_thresholds,
    fewest,
    sets_of,
    thresholds_for,
)
from pipeline.metrics.discrimination import mean
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec
from pipeline.metrics.levels import quantile_of
from pipeline.metrics.questions import both_ways, questions_of
from pipeline.metrics.shares import wilson
from pipeline.metrics.summary import in_columns, limits_of

CLASSES = "classes"  # name of the question for the class, of tasks with exclusive classes
TOO_FEW = "too few"
COVERAGE = [
    *("by", "promised", "kind", "group", "n", "left_out", "patients", "n_calibration", "covered"),
    *limits_of("coverage", "coverage_of_patients"),
    *("interval", "mean_set_size", "share_empty", "share_single", "share_full", "note"),
]


@dataclass(frozen=True)
class ConformalSets:
    """Conformal sets of labelled cases.

    Attributes
    ----------
    members : (n, K) bool
        Whether a class is in the set of a case.
    n_calibration : (n,) int
        Number of calibration patients behind the threshold for the true class of a case.
    alpha : float
    by : {None, "class", "site"}
    """

    members: Marks
    n_calibration: Ints
    alpha: float
    by: By


def conformal_sets_of(
    probabilities: Floats, labels: Ints, thresholds: Thresholds, sites: Names | None = None
) -> ConformalSets:
    """Give the sets of labelled cases with the number of calibration patients behind each threshold."""
    n = np.reshape([one.n for one in thresholds_for(probabilities, thresholds, sites)], probabilities.shape)
    members = sets_of(probabilities, thresholds, sites)
    return ConformalSets(members, n[np.arange(len(labels)), labels], thresholds.alpha, thresholds.by)


@dataclass(frozen=True)
class LabelledCases:
    """Labelled cases with their probabilities, for one question of K classes.

    Attributes
    ----------
    probabilities : (n, K)
    labels : (n,) int
    patients, sites, folds : (n,) str
    """

    probabilities: Floats
    labels: Ints
    patients: Names
    sites: Names
    folds: Names


def labelled_cases(evaluated: EvaluatedCases, spec: TaskSpec) -> dict[str, tuple[Sequence[str], Ints, LabelledCases]]:
    """Give classes, rows and cases of the question for the class, or of one question per label of a multilabel task."""
    sites = evaluated.cases["site"].to_numpy(dtype=str)
    if evaluated.labels.ndim == 1:
        known = LabelledCases(
            evaluated.calibrated, evaluated.labels, patients=evaluated.patients, sites=sites, folds=evaluated.folds
        )
        return {CLASSES: (spec.classes, np.arange(len(evaluated.labels)), known)}
    return {
        question.name: (
            ABSENT_OR_PRESENT,
            question.rows,
            LabelledCases(
                both_ways(question.prediction),
                question.events.astype(np.int64),
                patients=evaluated.patients[question.rows],
                sites=sites[question.rows],
                folds=evaluated.folds[question.rows],
            ),
        )
        for question in questions_of(evaluated.calibrated, evaluated.labels, spec.classes)
    }


def sets_elsewhere(
    evaluated: LabelledCases, elsewhere: Mapping[str, LabelledCases], alpha: float, by: By = None
) -> ConformalSets:
    """Evaluate each fold by thresholds that were set on development cases of other patients.

    Parameters
    ----------
    evaluated : LabelledCases
    elsewhere : mapping
        Fold to its development cases, with predictions of the calibrator that evaluates the fold. (In cross-fitting,
        the predictions by which those cases are evaluated themselves come from calibrators that have seen the fold.)
    alpha, by
        As `conformal_thresholds` takes them.
    """
    members = np.zeros(evaluated.probabilities.shape, dtype=bool)
    n = np.zeros(len(evaluated.labels), dtype=np.int64)
    for fold, there in elsewhere.items():
        here = evaluated.folds == fold
        found = conformal_thresholds(there.probabilities, there.labels, there.patients, alpha, by=by, sites=there.sites)
        sets = conformal_sets_of(evaluated.probabilities[here], evaluated.labels[here], found, evaluated.sites[here])
        members[here], n[here] = sets.members, sets.n_calibration
    return ConformalSets(members, n, alpha, by)


def coverage_table(
    sets: ConformalSets, evaluated: LabelledCases, classes: Sequence[str], *, weights: Floats, confidence: float
) -> pd.DataFrame:
    """Tabulate how often the sets contain the true class: over all cases, per class, per site, and per set size.

    Parameters
    ----------
    sets : ConformalSets
        Sets of n cases with K classes.
    evaluated : LabelledCases
        The same cases.
    classes : sequence of str
    weights : (1 + R, n)
        As `bootstrap.cluster_weights` gives them.
    confidence : float

    Returns
    -------
    pandas.DataFrame
        Columns `COVERAGE`. `n` counts the cases whose true class had a threshold, `left_out` the others. If all are
        left out, `note` says "too few" and the metrics are empty. `n_calibration` is the minimum over a row's cases
        (each fold has its own thresholds). `coverage` counts cases, and `interval` names its kind of limits: Wilson's
        on cases if each case is of another patient; else the bootstrap over patients; Wilson's with the number of
        patients as n if every case or none is covered, because then no replicate differs. `coverage_of_patients`, with
        Wilson's limits, is the share of patients all of whose cases in the row are covered: this is what conformal
        prediction guarantees. A set is single with one class (certain), full with all classes (uninformative), and
        empty with none (always wrong).
    """
    sizes, labels, sites = sets.members.sum(axis=1), evaluated.labels, evaluated.sites
    kinds = {
        "marginal": {EVERYONE: np.ones(len(labels), dtype=bool)},
        "class": {name: labels == number for number, name in enumerate(classes)},
        "site": {str(site): sites == site for site in np.unique(sites)},
        "set size": {str(size): sizes == size for size in np.unique(sizes)},
    }
    rows = [
        {"kind": kind, "group": name, **_coverage(sets, mask, evaluated, weights=weights, confidence=confidence)}
        for kind, masks in kinds.items()
        for name, mask in masks.items()
        if mask.any()
    ]
    return pd.DataFrame(rows, columns=COVERAGE).assign(by=sets.by or EVERYONE, promised=1 - sets.alpha)


def _coverage(
    sets: ConformalSets, mask: Marks, cases: LabelledCases, *, weights: Floats, confidence: float
) -> dict[str, Any]:
    """Compute one row from the cases that a mask (n,) selects."""
    labels, patients = cases.labels, cases.patients
    evaluated = mask & (sets.n_calibration >= fewest(sets.alpha))
    known: dict[str, Any] = {"n": int(evaluated.sum()), "left_out": int((mask & ~evaluated).sum())}
    if not evaluated.any():
        return {**known, "n_calibration": int(sets.n_calibration[mask].min()), "note": TOO_FEW}
    covered = sets.members[np.arange(len(labels)), labels][evaluated]
    of_patients = pd.Series(covered).groupby(patients[evaluated]).all().to_numpy(dtype=bool)
    found, interval = _share(covered, len(of_patients), weights[:, evaluated], confidence)
    shares = {"coverage": found, "coverage_of_patients": _wilson(of_patients.mean(), len(of_patients), confidence)}
    return {
        **known,
        "patients": len(of_patients),
        "n_calibration": int(sets.n_calibration[evaluated].min()),
        "covered": int(covered.sum()),
        **in_columns({name: share.as_json() for name, share in shares.items()}),
        "interval": interval,
        **_sizes(sets.members[evaluated]),
        "note": "",
    }


def _share(covered: Marks, n_patients: int, weights: Floats, confidence: float) -> tuple[Estimate, str]:
    """Estimate the share of covered cases (m,) and name the kind of interval."""
    share = float(covered.mean())
    if n_patients < len(covered) and 0 < share < 1:
        return estimate(partial(mean, covered.astype(np.float64)), weights, confidence), "bootstrap of patients"
    name = "Wilson, cases" if n_patients == len(covered) else "Wilson, patients"
    return _wilson(share, n_patients, confidence), name


def _wilson(share: float, n: int, confidence: float) -> Estimate:
    lower, upper = wilson(round(share * n), n, quantile_of(confidence))
    return Estimate(float(share), lower, upper)


def _sizes(members: Marks) -> dict[str, float]:
    size, n_classes = members.sum(axis=1), members.shape[1]
    shares = {"share_empty": size == 0, "share_single": size == 1, "share_full": size == n_classes}
    return {"mean_set_size": float(size.mean()), **{name: float(marks.mean()) for name, marks in shares.items()}}
