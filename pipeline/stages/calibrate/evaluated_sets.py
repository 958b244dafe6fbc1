"""The sets of cases to evaluate: held-out cases of the folds, the test set, and left-out sites."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.errors import UserError
from pipeline.metrics.calibrators.calibrator import Calibrator, identity_for
from pipeline.metrics.calibrators.fitting import Unsuitable
from pipeline.metrics.calibrators.selection import fitted
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec, evaluated_across, evaluated_by, logits_of, other_folds
from pipeline.metrics.guards import LeakageError, refuse_leakage, refuse_missing_cases
from pipeline.paths import Role
from pipeline.schema import FINAL, Params
from pipeline.stages.calibrate.fusing import fitted_on, fused_across, fused_by, read_inputs
from pipeline.stages.calibrate.predictions import labels_of, mean_of_members, scored, without_images
from pipeline.stages.calibrate.released import Released, to_release


@dataclass(frozen=True)
class Evaluation:
    """Every set of cases that this stage evaluates.

    Attributes
    ----------
    held_out : EvaluatedCases
        The pooled held-out cases of the numbered folds.
    repetitions, left_out : mapping
        The same of each repetition of the folds, and the cases of each fold that leaves out a site.
    released : Released
    test : EvaluatedCases or None
        The test set by the released model, whether or not it is shown.
    """

    held_out: EvaluatedCases
    repetitions: Mapping[str, EvaluatedCases]
    left_out: Mapping[str, EvaluatedCases]
    released: Released
    test: EvaluatedCases | None


def evaluate(spec: TaskSpec, params: Params) -> Evaluation:
    """Evaluate the folds, their repetitions, the test set and the left-out sites.

    Raises
    ------
    UserError
        If the calibration method does not suit the cases, or a calibrator would evaluate patients it was fitted on.
    """
    method, columns = params.calibrate.method, read_inputs()
    try:
        images = evaluate_folds(list(params.split.numbered), spec, params)
        held_out = fused_across(images, columns)
        repetitions = {
            name: fused_across(evaluate_folds(list(some), spec, params), columns)
            for name, some in params.split.repeated.items()
        }
        released = released_by(images, spec, params)
        test = evaluate_test_set(released, spec, params)
        left_out = {fold: evaluate_left_out(fold, images, spec, method) for fold in params.split.left_out}
    except Unsuitable as error:
        raise UserError(f"calibrate.method is {method}, but {error}") from error
    except LeakageError as error:
        raise UserError(f"{paths.FOLDS}: {error}; run split, adapt and finetune again") from error
    return Evaluation(held_out, repetitions, left_out, released=released, test=test)


def evaluate_folds(folds: list[str], spec: TaskSpec, params: Params) -> EvaluatedCases:
    """Pool the held-out images of the folds, each fold calibrated by a calibrator fitted on the other folds."""
    parts = {fold: scored(fold, Role.HELD_OUT) for fold in folds}
    known = [without_images(fold, part, spec, baseline_of(params)) for fold, part in parts.items()]
    cases = pd.concat(parts.values(), ignore_index=True)
    refuse_missing_cases(set(cases["case"]), cases["case"])
    pooled = evaluated_across(cases, labels_of(cases, spec), params.calibrate.method)
    refuse_leakage(cases, {fold: set(others.patients) for fold, others in other_folds(pooled).items()})
    return replace(pooled, baselines={name: np.concatenate([one[name] for one in known]) for name in known[0]})


def evaluate_test_set(released: Released, spec: TaskSpec, params: Params) -> EvaluatedCases | None:
    """Evaluate the test set by the released model; None if it was not trained or there are no test cases."""
    if not set(released.members) <= set(params.split.folds):
        return None
    cases = mean_of_members(released.members, Role.TEST)
    seen, allowed = set(released.development.patients), paths.read_json(paths.SPLIT_SUMMARY)["acknowledged_leaks"]
    if cases.empty:
        return None
    refuse_leakage(cases, dict.fromkeys(cases["fold"], seen), allowed)
    images = evaluated_by(released.calibrator, cases, labels_of(cases, spec))
    both, alone = released.fusion, released.columns_alone
    test = fused_by(both, alone, images) if both and alone else images
    return replace(test, baselines=without_images(FINAL, cases, spec, baseline_of(params)))


def baseline_of(params: Params) -> list[str]:
    """Name the columns of the baselines without images: those that the model takes, and `calibrate.baseline`."""
    return list(dict.fromkeys([*(one.name for one in read_inputs()), *params.calibrate.baseline]))


def released_by(held_out: EvaluatedCases, spec: TaskSpec, params: Params) -> Released:
    """Fit the released calibrator, and the fusion: on the pooled held-out cases, or an ensemble's calibration cases."""
    if params.calibrate.form == "refit":
        return to_release(params.calibrate.method, [FINAL], held_out.cases, held_out.labels, columns=read_inputs())
    members = list(params.split.numbered)
    cases = mean_of_members(members, Role.CALIBRATION)
    if cases["patient"].nunique() < 2:
        raise UserError(
            f"calibrate.form is ensemble, but cohort.csv has {len(cases)} labelled cases with the split 'calibration'; "
            "its calibrator needs cases of at least two patients that no member saw: mark some, or set it to refit"
        )
    return to_release(params.calibrate.method, members, cases, labels_of(cases, spec), columns=read_inputs())


def evaluate_left_out(fold: str, pooled: EvaluatedCases, spec: TaskSpec, method: str) -> EvaluatedCases:
    """Evaluate the site that a fold left out, with a calibrator fitted on patients who have no case at that site.

    The calibrator is fitted like the released one, on the out-of-fold logits of the numbered folds. The models of those
    folds were trained on this site too, but neither the calibrator nor the model it is applied to saw its patients.

    Parameters
    ----------
    fold : str
        "without-SITE" or "blind-SITE".
    pooled : EvaluatedCases
        The held-out images of all numbered folds.
    method : str
        As in `calibrators.selection.fitted`. The column `state` is "uncalibrated" if the method does not suit the cases
        of the other sites, or if there are fewer than two patients; else "calibrated".
    """
    held_out = scored(fold, Role.HELD_OUT)
    labels = labels_of(held_out, spec)
    others = pooled.part(~np.isin(pooled.patients, held_out["patient"]))
    refuse_leakage(held_out, {fold: set(others.patients)})
    calibrator: Calibrator = identity_for(labels)
    state = "uncalibrated"
    if len(set(others.patients)) > 1 and (columns := read_inputs()):
        return evaluated_by(fitted_on(others, columns), held_out.assign(state="calibrated"), labels)
    if len(set(others.patients)) > 1:
        with contextlib.suppress(Unsuitable):
            calibrator = fitted(method, logits_of(others.cases), others.labels, others.patients)
            state = "calibrated"
    return evaluated_by(calibrator, held_out.assign(state=state), labels)
