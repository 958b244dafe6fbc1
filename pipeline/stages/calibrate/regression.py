"""Recalibrate and evaluate the numbers of a regression: the folds, their repetitions, the test set, left-out sites."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import paths
from pipeline.errors import UserError
from pipeline.metrics.guards import LeakageError, refuse_leakage, refuse_missing_cases
from pipeline.metrics.regression.evaluation import (
    EvaluatedNumbers,
    Map,
    evaluated_across,
    map_for,
    mapped,
    true_numbers,
)
from pipeline.params import cohort_name
from pipeline.paths import Role
from pipeline.progress import progress
from pipeline.schema import FINAL, Params
from pipeline.stages.calibrate.openings import count_opening
from pipeline.stages.calibrate.patients import PATIENTS, Rule
from pipeline.stages.calibrate.predictions import hash_of_model, name_of_test_set, scored
from pipeline.stages.calibrate.regression_tables import (
    write_headers,
    write_left_out,
    write_members,
    write_metrics,
    write_predictions,
    write_repetitions,
    write_tables,
)
from pipeline.stages.calibrate.stamps import stamps

Scopes = Mapping[str, EvaluatedNumbers]


@dataclass(frozen=True)
class Numbers:
    """Every set of cases that is evaluated.

    Attributes
    ----------
    held_out : EvaluatedNumbers
        The pooled held-out cases of the numbered folds, each fold mapped by a fit on the others.
    repetitions, left_out : mapping
        The same of each repetition of the folds, and the cases of each fold that leaves out a site.
    test : EvaluatedNumbers or None
        The test set by the released model, whether or not it is shown.
    released : Map
        Fitted on all held-out cases.
    """

    held_out: EvaluatedNumbers
    repetitions: Scopes
    left_out: Scopes
    test: EvaluatedNumbers | None
    released: Map


def calibrate_numbers(params: Params, facts: Mapping[str, Any]) -> None:
    """Write recalibration and intervals, the predictions and the metrics."""
    try:
        found = evaluate(params)
    except LeakageError as error:
        raise UserError(f"{paths.FOLDS}: {error}; run split, adapt and finetune again") from error
    shown = found.test if params.calibrate.test == "open" else None
    joined = by_patient([found.held_out, *([found.test] if found.test else [])], facts["patients_known"], params)
    images: dict[str, EvaluatedNumbers] = {"internal": found.held_out}
    images |= {name_of_test_set(): shown} if shown else {}
    scopes: dict[str, EvaluatedNumbers] = {}
    for scope, one in images.items():
        scopes |= ({f"{scope}{PATIENTS}": one.of_patients()} if joined else {}) | {scope: one}
    write_metrics(progress(scopes.items(), "metrics"), found.repetitions, params)
    write_tables(scopes, params)
    write_repetitions(found.repetitions, params)
    write_left_out(found.left_out, params)
    write_members(params)
    write_headers()
    write_predictions(scopes)
    if shown:
        model = str(shown.cases["model_sha256"].iloc[0])
        count_opening(paths.OPENINGS, cohort_name(params.cohort.path), model, shown.values[:, None])
    write_map(found, params)
    rule: Rule | None = "mean" if joined else None
    paths.write_json({"scopes": list(scopes)} | stamps(params, shown is not None, rule), paths.STAMPS)


def evaluate(params: Params) -> Numbers:
    """Evaluate the folds, their repetitions, the test set and the left-out sites."""
    held_out = evaluate_folds(list(params.split.numbered), params)
    coverage, method = params.calibrate.set_coverage, params.calibrate.method
    released = map_for(held_out.cases, coverage, method)
    return Numbers(
        held_out=held_out,
        repetitions={name: evaluate_folds(list(some), params) for name, some in params.split.repeated.items()},
        left_out={fold: evaluate_left_out(fold, held_out, params) for fold in params.split.left_out},
        test=evaluate_test_set(released, held_out, params),
        released=released,
    )


def evaluate_folds(folds: list[str], params: Params) -> EvaluatedNumbers:
    """Pool the held-out cases of the folds, each fold with a map that was fitted on the other folds."""
    cases = pd.concat([scored(fold, Role.HELD_OUT) for fold in folds], ignore_index=True)
    refuse_missing_cases(set(cases["case"]), cases["case"])
    pooled = evaluated_across(cases, params.calibrate.set_coverage, params.calibrate.method)
    others = {fold: set(cases.loc[cases["fold"] != fold, "patient"]) for fold in folds}
    refuse_leakage(cases, others)
    return pooled


def evaluate_test_set(released: Map, held_out: EvaluatedNumbers, params: Params) -> EvaluatedNumbers | None:
    """Evaluate the test set by the released model; None if it was not trained or there are no test cases."""
    if FINAL not in params.split.folds:
        return None
    cases = scored(FINAL, Role.TEST)
    if cases.empty:
        return None
    allowed = paths.read_json(paths.SPLIT_SUMMARY)["acknowledged_leaks"]
    refuse_leakage(cases, {FINAL: set(held_out.patients.tolist())}, allowed)
    return mapped(cases, true_numbers(cases), {FINAL: released})


def evaluate_left_out(fold: str, pooled: EvaluatedNumbers, params: Params) -> EvaluatedNumbers:
    """Evaluate the site that a fold left out, with a map fitted on held-out patients who have no case there."""
    cases = scored(fold, Role.HELD_OUT)
    others = pooled.cases[~pooled.cases["patient"].isin(set(cases["patient"]))]
    refuse_leakage(cases, {fold: set(others["patient"])})
    method = params.calibrate.method if others["patient"].nunique() > 1 else "none"
    fitted_on = others if len(others) else cases
    if fitted_on is cases:
        raise UserError(f"split.folds names '{fold}', but no patient has cases at other sites only")
    found = map_for(fitted_on, params.calibrate.set_coverage, method)
    state = "calibrated" if method != "none" else "uncalibrated"
    return mapped(cases.assign(state=state), true_numbers(cases), {fold: found})


def by_patient(evaluated: list[EvaluatedNumbers], patients_known: bool, params: Params) -> bool:
    """Tell whether each patient gets one number: the mean over the images, if `calibrate.per_patient` is mean.

    With auto, it does if a patient has several images, and all images of a patient have the same true number.
    """
    rule = params.calibrate.per_patient
    if rule == "none" or not patients_known:
        return False
    agree = all((pd.Series(one.true).groupby(one.patients).nunique() == 1).all() for one in evaluated)
    if rule == "mean" and not agree:
        raise UserError(
            "calibrate.per_patient is mean, but images of one patient have different numbers; set it to none to "
            "evaluate images alone, or give them one number in cohort.csv"
        )
    first = evaluated[0].patients
    return agree and (rule == "mean" or len(set(first.tolist())) < len(first))


def write_map(found: Numbers, params: Params) -> None:
    """Write the released map, and the maps by which the folds were evaluated."""
    cross_fitted = {fold: one.as_json() for fold, one in sorted(found.held_out.maps.items())}
    held_out = found.held_out
    fitted_on = {
        "cases": len(held_out.true),
        "patients": len(set(held_out.patients.tolist())),
        "folds": sorted(set(held_out.folds.tolist())),
    }
    members = {"members": [FINAL], "fitted_on": fitted_on, "choice": [], "form": params.calibrate.form}
    hashes = {FINAL: hash_of_model(FINAL)} if FINAL in params.split.folds else {}
    values = found.released.as_json() | members | {"cross_fitted": cross_fitted, "model_sha256": hashes}
    paths.write_json(values, paths.CALIBRATOR)
    paths.write_json({}, paths.THRESHOLDS)
