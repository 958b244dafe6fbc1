"""Sets of cases as they are evaluated: what the folds held out, what is test, which site was left out."""

import contextlib
from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.errors import UserError
from pipeline.metrics.calibrators.calibrator import Calibrator, identity_for
from pipeline.metrics.calibrators.fitting import Unsuitable
from pipeline.metrics.calibrators.selection import fitted
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec, evaluated_across, evaluated_by, logits_of, other_folds
from pipeline.metrics.guards import refuse_leakage, refuse_missing_cases
from pipeline.paths import Role
from pipeline.schema import FINAL, Params
from pipeline.stages.calibrate.predictions import labels_of, mean_of_members, scored, without_images
from pipeline.stages.calibrate.released import Released, to_release


def evaluate_folds(folds: list[str], labelling: TaskSpec, params: Params) -> EvaluatedCases:
    """Pool what each fold held out, calibrated by a map fitted on the other folds."""
    parts = {fold: scored(fold, Role.HELD_OUT) for fold in folds}
    known = [without_images(fold, part, labelling, params.calibrate.baseline) for fold, part in parts.items()]
    cases = pd.concat(parts.values(), ignore_index=True)
    refuse_missing_cases(set(cases["case"]), cases["case"])
    pooled = evaluated_across(cases, labels_of(cases, labelling), params.calibrate.method)
    refuse_leakage(cases, {fold: set(others.patients) for fold, others in other_folds(pooled).items()})
    return replace(pooled, baselines={name: np.concatenate([one[name] for one in known]) for name in known[0]})


def evaluate_test_set(released: Released, labelling: TaskSpec, params: Params) -> EvaluatedCases | None:
    """Evaluate the test cases by what is released; None where it was not trained."""
    if not set(released.members) <= set(params.split.folds):
        return None
    cases = mean_of_members(released.members, Role.TEST)
    seen, allowed = set(released.development.patients), paths.read_json(paths.SPLIT_SUMMARY)["acknowledged_leaks"]
    if cases.empty:
        return None
    refuse_leakage(cases, dict.fromkeys(cases["fold"], seen), allowed)
    test = evaluated_by(released.calibrator, cases, labels_of(cases, labelling))
    return replace(test, baselines=without_images(FINAL, cases, labelling, params.calibrate.baseline))


def released_by(held_out: EvaluatedCases, labelling: TaskSpec, params: Params) -> Released:
    """Fit the map that is released: on what the folds held out, or for an ensemble on the cases set aside for it."""
    if params.calibrate.form == "refit":
        return to_release(params.calibrate.method, [FINAL], held_out.cases, held_out.labels)
    members = list(params.split.numbered)
    cases = mean_of_members(members, Role.CALIBRATION)
    if cases["patient"].nunique() < 2:
        raise UserError(
            f"calibrate.form is ensemble, but {len(cases)} labelled cases of cohort.csv have the split 'calibration', "
            "and its map may only be fitted on cases that no member saw: mark some, or set it to refit"
        )
    return to_release(params.calibrate.method, members, cases, labels_of(cases, labelling))


def evaluate_left_out(fold: str, pooled: EvaluatedCases, labelling: TaskSpec, method: str) -> EvaluatedCases:
    """Evaluate the site that a fold left out, calibrated by a map fitted on patients who have no case there.

    The map is fitted as the released one is, on the out-of-fold logits of the numbered folds. The models of those folds
    were trained on this site as well; the map knows none of its patients, and the model that it is applied to neither.

    Parameters
    ----------
    fold : str
        "without-SITE" or "blind-SITE".
    pooled : EvaluatedCases
        The held-out cases of all numbered folds.
    method : str
        As `calibration_choice.fitted` takes it. Where it does not suit the cases of the other sites, or there are none,
        the column `state` says "uncalibrated", else "calibrated".
    """
    held_out = scored(fold, Role.HELD_OUT)
    labels = labels_of(held_out, labelling)
    others = pooled.part(~np.isin(pooled.patients, held_out["patient"]))
    refuse_leakage(held_out, {fold: set(others.patients)})
    calibrator: Calibrator = identity_for(labels)
    state = "uncalibrated"
    if len(set(others.patients)) > 1:
        with contextlib.suppress(Unsuitable):
            calibrator = fitted(method, logits_of(others.cases), others.labels, others.patients)
            state = "calibrated"
    return evaluated_by(calibrator, held_out.assign(state=state), labels)
