"""How often conformal sets hold the true class, as a promise is evaluated: on other patients than those that set it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from pipeline.metrics.bootstrap import Estimate, estimate
from pipeline.metrics.conformal import (
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
from pipeline.metrics.summary import in_columns, limits_of, wilson

TOO_FEW = "too few"
COVERAGE = [
    *("by", "promised", "kind", "group", "n", "left_out", "patients", "n_calibration", "covered"),
    *limits_of("coverage", "coverage_of_patients"),
    *("interval", "mean_set_size", "share_empty", "share_single", "share_full", "note"),
]


@dataclass(frozen=True)
class EvaluatedSets:
    """The sets of labelled cases.

    Attributes
    ----------
    members : (n, K) bool
        Whether a class is in the set of a case.
    n_calibration : (n,) int
        Patients that decided the threshold which the true class of a case had to pass.
    alpha : float
    by : {None, "class", "site"}
    """

    members: Marks
    n_calibration: Ints
    alpha: float
    by: By


def evaluated_sets(
    probabilities: Floats, labels: Ints, thresholds: Thresholds, sites: Names | None = None
) -> EvaluatedSets:
    """Give the sets of labelled cases, with the number of patients that decided each one's threshold."""
    n = np.reshape([one.n for one in thresholds_for(probabilities, thresholds, sites)], probabilities.shape)
    members = sets_of(probabilities, thresholds, sites)
    return EvaluatedSets(members, n[np.arange(len(labels)), labels], thresholds.alpha, thresholds.by)


@dataclass(frozen=True)
class Prediction:
    """Labelled cases with their probabilities, for a question of K classes.

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


def sets_elsewhere(
    evaluated: Prediction, elsewhere: Mapping[str, Prediction], alpha: float, by: By = None
) -> EvaluatedSets:
    """Evaluate each fold by thresholds that were found on development cases of other patients.

    Parameters
    ----------
    evaluated : Prediction
    elsewhere : mapping
        Of each fold its development cases, prediction by the very calibrator that evaluates the fold. (In
        cross-fitting, the predictions by which those cases are evaluated themselves come from calibrators that had
        seen the fold.)
    alpha, by
        As `conformal_thresholds` takes them.
    """
    members = np.zeros(evaluated.probabilities.shape, dtype=bool)
    n = np.zeros(len(evaluated.labels), dtype=np.int64)
    for fold, there in elsewhere.items():
        here = evaluated.folds == fold
        found = conformal_thresholds(there.probabilities, there.labels, there.patients, alpha, by, there.sites)
        sets = evaluated_sets(evaluated.probabilities[here], evaluated.labels[here], found, evaluated.sites[here])
        members[here], n[here] = sets.members, sets.n_calibration
    return EvaluatedSets(members, n, alpha, by)


def coverage_table(
    sets: EvaluatedSets, evaluated: Prediction, classes: Sequence[str], weights: Floats, confidence: float
) -> pd.DataFrame:
    """Tabulate how often sets hold the true class: over all cases, per class, per site, and per size of the set.

    Parameters
    ----------
    sets : EvaluatedSets
        Of n cases with K classes.
    evaluated : Prediction
        The same cases.
    classes : sequence of str
    weights : (1 + R, n)
        As `bootstrap.cluster_weights` gives them.
    confidence : float

    Returns
    -------
    pandas.DataFrame
        Columns `COVERAGE`. `n` counts the cases whose true class had a threshold, `left_out` the others; where all are
        left out, `note` says "too few" and there is no number. `n_calibration` is the least of a row's cases (folds
        have thresholds of their own). `coverage` counts cases, and `interval` names its limits: Wilson's on cases
        where each is of another patient, else the bootstrap's over patients; where every case or none is covered and
        so no draw differs, Wilson's with patients for n. `coverage_of_patients`, with Wilson's limits, is the share
        of patients all of whose cases in the row are covered: what was promised. A set is single with one class
        (sure), full with all (no help), and empty with none (like no class; never right).
    """
    sizes, labels, sites = sets.members.sum(axis=1), evaluated.labels, evaluated.sites
    kinds = {
        "marginal": {EVERYONE: np.ones(len(labels), dtype=bool)},
        "class": {name: labels == number for number, name in enumerate(classes)},
        "site": {str(site): sites == site for site in np.unique(sites)},
        "set size": {str(size): sizes == size for size in np.unique(sizes)},
    }
    rows = [
        {"kind": kind, "group": name, **_coverage(sets, mask, evaluated, weights, confidence)}
        for kind, masks in kinds.items()
        for name, mask in masks.items()
        if mask.any()
    ]
    return pd.DataFrame(rows, columns=COVERAGE).assign(by=sets.by or EVERYONE, promised=1 - sets.alpha)


def _coverage(
    sets: EvaluatedSets, mask: Marks, cases: Prediction, weights: Floats, confidence: float
) -> dict[str, Any]:
    """Evaluate the cases (n,) of one row."""
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
    """Estimate the share of covered cases (m,), and name the interval."""
    share = float(covered.mean())
    if n_patients < len(covered) and 0 < share < 1:
        return estimate(partial(mean, covered.astype(np.float64)), weights, confidence), "bootstrap of patients"
    name = "Wilson, cases" if n_patients == len(covered) else "Wilson, patients"
    return _wilson(share, n_patients, confidence), name


def _wilson(share: float, n: int, confidence: float) -> Estimate:
    return Estimate(float(share), *wilson(round(share * n), n, float(norm.ppf((1 + confidence) / 2))))


def _sizes(members: Marks) -> dict[str, float]:
    size, n_classes = members.sum(axis=1), members.shape[1]
    shares = {"share_empty": size == 0, "share_single": size == 1, "share_full": size == n_classes}
    return {"mean_set_size": float(size.mean()), **{name: float(marks.mean()) for name, marks in shares.items()}}
