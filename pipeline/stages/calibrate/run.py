"""calibrate: turn logits into probabilities and evaluate the folds and, if it is open, the test set."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.errors import UserError
from pipeline.imaging.labels import REGRESSION, SURVIVAL
from pipeline.metrics.calibrators.calibrator import digest_of
from pipeline.metrics.comparison import Settings as MetricSettings
from pipeline.metrics.evaluation import (
    EvaluatedCases,
    TaskSpec,
    auc_of_folds,
    by_fold,
    calibrators_of_folds,
    class_table,
    other_folds,
    prediction_table,
    reliability_tables,
    roc_tables,
    summary_of,
)
from pipeline.metrics.summary import (
    OF_A_SITE,
    BadProbabilities,
    collapses,
    in_short,
    of_a_repetition,
    of_a_site,
    rows_of,
)
from pipeline.params import cohort_name
from pipeline.paths import Role
from pipeline.progress import progress
from pipeline.schema import FINAL, Params
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.assessment import TABLES, Settings, assess
from pipeline.stages.calibrate.candidates import CANDIDATES, VALIDATORS, evaluate_candidates, evaluate_validators
from pipeline.stages.calibrate.evaluated_sets import Evaluation, evaluate
from pipeline.stages.calibrate.fusing import read_inputs
from pipeline.stages.calibrate.inputs import auc_alone, inputs_table, marks_of_classes
from pipeline.stages.calibrate.openings import count_opening
from pipeline.stages.calibrate.patients import Rule, can_be_joined, of_patients, patients_first
from pipeline.stages.calibrate.portfolio import evaluate_members
from pipeline.stages.calibrate.predictions import (
    hash_of_model,
    name_of_test_set,
    predictions_of_candidates,
    unlabelled_images,
)
from pipeline.stages.calibrate.regression import calibrate_numbers
from pipeline.stages.calibrate.released import Released, thresholds_of
from pipeline.stages.calibrate.stamps import refuse_settings, stamps
from pipeline.stages.calibrate.subject import bootstrap_for
from pipeline.stages.calibrate.survival import calibrate_times

Floats = NDArray[np.float64]
Scopes = Mapping[str, EvaluatedCases]
Elsewhere = dict[str, Mapping[str, EvaluatedCases]]

LEFT_OUT = ["site", "unlabelled", "fold", *OF_A_SITE, "state"]


def run(params: Params) -> None:
    """Write the calibrator, the predictions and the metrics."""
    facts = paths.read_json(paths.COHORT_FACTS)
    spec = TaskSpec(facts["classes"], facts["task"])
    refuse_settings(params, facts["patients_known"])
    if spec.task == REGRESSION:
        calibrate_numbers(params, facts)
        return
    if spec.task == SURVIVAL:
        calibrate_times(params, facts)
        return
    found = evaluate(spec, params)
    shown = found.test if params.calibrate.test == "open" else None
    development = found.released.development
    rule = rule_for_patients(
        [found.held_out, development, *([found.test] if found.test else [])], facts["patients_known"], params
    )
    scopes: Scopes = {"internal": found.held_out} | ({name_of_test_set(): shown} if shown else {})
    elsewhere: Elsewhere = {
        "internal": other_folds(found.held_out),
        name_of_test_set(): {found.released.name: development},
    }
    scopes, elsewhere = by_patients(scopes, elsewhere, rule, spec)
    write_metrics(scopes, found.repetitions, spec, params)
    write_assessment(scopes, elsewhere, spec, params)
    write_repetitions(found.repetitions, spec, params)
    write_left_out(found.left_out, spec, params)
    write_collapses(scopes, found.left_out, spec.classes)
    searched = {} if spec.task == "multilabel" else searched_scopes(found.released, shown, params)
    write_searches(searched, spec.classes, params)
    paths.write_table(pd.concat(prediction_table(one, scope) for scope, one in scopes.items()), paths.PREDICTIONS)
    if shown:
        model = shown.cases["model_sha256"].iloc[0]
        count_opening(paths.OPENINGS, cohort_name(params.cohort.path), model, shown.calibrated)
    members = MetricSettings(params.calibrate.bins, bootstrap_for(params, "members"))
    paths.write_table(evaluate_members(params.split.numbered, spec, members), paths.MEMBERS)
    write_calibrator(found.released, found.held_out, params)
    write_thresholds(development, rule, spec, params)
    write_inputs(found, shown, spec.classes)
    paths.write_json({"scopes": list(scopes)} | stamps(params, shown is not None, rule), paths.STAMPS)


def searched_scopes(
    released: Released, shown: EvaluatedCases | None, params: Params
) -> dict[str, tuple[list[str], Role]]:
    """List the scopes in which the candidates of `adapt.method: auto` are evaluated, with their folds and role."""
    scopes = {"internal": (list(params.split.numbered), Role.HELD_OUT)}
    if shown and released.members == [FINAL]:
        scopes[name_of_test_set()] = ([FINAL], Role.TEST)
    return scopes


def rule_for_patients(evaluated: list[EvaluatedCases], patients_known: bool, params: Params) -> Rule | None:
    """Resolve `calibrate.per_patient: auto` to the mean if patients have several images whose labels agree."""
    rule = params.calibrate.per_patient
    if rule == "auto":
        return "mean" if patients_known and can_be_joined(evaluated) else None
    return None if rule == "none" else rule


def by_patients(scopes: Scopes, elsewhere: Elsewhere, rule: Rule | None, spec: TaskSpec) -> tuple[Scopes, Elsewhere]:
    """Add a scope of patients before each scope of images, if there is a rule."""
    if rule is None:
        return scopes, elsewhere
    try:
        return patients_first(scopes, elsewhere, rule, spec)
    except ValueError as error:
        raise UserError(
            f"calibrate.per_patient is {rule}, but {error}; set it to none to evaluate images alone"
        ) from error


def write_metrics(scopes: Scopes, repetitions: Scopes, spec: TaskSpec, params: Params) -> None:
    """Write the metrics, per fold and pooled, and the tables of the curves."""
    flat, short = [], dict[str, Any]()
    has_events = len(spec.classes) == 2 or spec.task == "multilabel"  # else per_class.csv counts the cases
    for scope, evaluated in progress(scopes.items(), "metrics"):
        for state, probabilities in (("uncalibrated", evaluated.uncalibrated), ("calibrated", evaluated.calibrated)):
            metrics = metrics_of(evaluated, probabilities, spec, params, name=scope)
            if scope.startswith("internal"):
                metrics |= auc_of_folds(evaluated, probabilities, bootstrap_for(params, scope))
            paths.write_json(metrics, paths.pooled_metrics(f"{scope}_{state}"))
            flat += rows_of(metrics, f"{scope}_{state}")
        short.setdefault("internal" if scope.startswith("internal") else "test", in_short(metrics, has_events))
    paths.write_json(short, paths.SUMMARY)
    for pooled in (scopes["internal"], *repetitions.values()):
        for fold, part in by_fold(pooled).items():
            metrics = metrics_of(part, part.calibrated, spec, params, name=f"fold {fold}")
            paths.write_json(metrics, paths.fold_metrics(fold))
            flat += rows_of(metrics, f"fold_{fold}")
    paths.write_table(pd.DataFrame(flat), paths.ALL_METRICS)
    paths.write_table(roc_tables(scopes), paths.ROC)
    paths.write_table(reliability_tables(scopes, params.calibrate.bins), paths.RELIABILITY)
    classes = [
        class_table(evaluated, spec, bootstrap_for(params, scope)).assign(scope=scope)
        for scope, evaluated in scopes.items()
    ]
    paths.write_table(pd.concat(classes), paths.PER_CLASS)


def metrics_of(
    evaluated: EvaluatedCases, probabilities: Floats, spec: TaskSpec, params: Params, *, name: str
) -> dict[str, Any]:
    """Compute the metrics of a set of cases; its name is part of the seed and of the error message."""
    try:
        bins, bootstrap = params.calibrate.bins, bootstrap_for(params, name)
        return summary_of(evaluated, probabilities, spec, bins=bins, bootstrap=bootstrap)
    except BadProbabilities as error:
        raise UserError(f"{name}: {error}; check the training curves in {paths.FOLDS}") from error


def write_assessment(scopes: Scopes, elsewhere: Elsewhere, spec: TaskSpec, params: Params) -> None:
    """Write every table of `assessment`, with the rows of all scopes."""
    settings = settings_of(params)
    found = {
        scope: assess(evaluated, elsewhere[scope], spec, settings, seed=seed_for(params.seed, "bootstrap", scope))
        for scope, evaluated in progress(scopes.items(), "tables")
    }
    for name in TABLES:
        tables = [tables[name].assign(scope=scope) for scope, tables in found.items()]
        paths.write_table(pd.concat(tables), paths.assessed(name))


def settings_of(params: Params) -> Settings:
    """Select the settings that are declared before any case is evaluated."""
    return Settings(**{name: getattr(params.calibrate, name) for name in Settings.__dataclass_fields__})


def write_repetitions(repetitions: Scopes, spec: TaskSpec, params: Params) -> None:
    """Write the pooled metrics of each repetition of the folds; each repetition is cross-fitted on its own."""
    of_name = {"r1": paths.read_json(paths.pooled_metrics("internal_calibrated"))}
    for name, evaluated in repetitions.items():
        of_name[name] = metrics_of(evaluated, evaluated.calibrated, spec, params, name=name)
    rows = [{"repetition": name, **of_a_repetition(metrics)} for name, metrics in of_name.items()]
    paths.write_table(pd.DataFrame(rows), paths.REPEATS)


def write_calibrator(released: Released, held_out: EvaluatedCases, params: Params) -> None:
    """Write the released calibrator, and the calibrators by which the folds were evaluated."""
    cross_fitted = {
        fold: one.as_json() | {"sha256": digest_of(one)} for fold, one in calibrators_of_folds(held_out).items()
    }
    models = {fold: hash_of_model(fold) for fold in released.members}
    others = {"form": params.calibrate.form, "cross_fitted": cross_fitted, "model_sha256": models}
    paths.write_json(released.as_json() | others, paths.CALIBRATOR)


def write_thresholds(development: EvaluatedCases, rule: Rule | None, spec: TaskSpec, params: Params) -> None:
    """Write the thresholds of the released model, chosen on its development cases: for scans, and for patients."""
    units = {"scan": development} | ({"patient": of_patients(development, rule, spec)} if rule else {})
    levels = settings_of(params).levels
    paths.write_json({unit: thresholds_of(cases, spec, levels) for unit, cases in units.items()}, paths.THRESHOLDS)


def write_inputs(found: Evaluation, shown: EvaluatedCases | None, classes: list[str]) -> None:
    """Describe the columns that the model takes, if it takes any."""
    paths.assessed("inputs").unlink(missing_ok=True)
    if found.released.fusion:
        table = inputs_table(
            found.held_out.cases,
            read_inputs(),
            marks_of_classes(found.held_out, classes),
            alone=partial(auc_alone, found.held_out),
            released=found.released.fusion,
            test=shown.cases if shown else None,
        )
        paths.write_table(table, paths.assessed("inputs"))


def write_left_out(left_out: Scopes, spec: TaskSpec, params: Params) -> None:
    """Write the metrics of each left-out site, and whether adaptation had seen its unlabelled images."""
    rows = []
    for fold, evaluated in left_out.items():
        metrics = metrics_of(evaluated, evaluated.calibrated, spec, params, name=fold)
        site, state = evaluated.cases.loc[0, ["site", "state"]]
        paths.write_json(metrics | {"state": state}, paths.fold_metrics(fold))
        known = {"site": site, "unlabelled": unlabelled_images(fold, site), "fold": fold, "state": state}
        rows.append(known | of_a_site(metrics, evaluated.calibrated, evaluated.labels))
    paths.write_table(pd.DataFrame(rows, columns=LEFT_OUT), paths.LEFT_OUT)


def write_collapses(scopes: Scopes, left_out: Scopes, classes: list[str]) -> None:
    """Write every class of which an evaluated set has cases but the model predicts none of them correctly."""
    of_folds = {f"fold_{fold}": part for fold, part in by_fold(scopes["internal"]).items()}
    sets = {**scopes, **of_folds, **left_out}
    tables = [collapses(one.calibrated, one.labels, classes).assign(scope=name) for name, one in sets.items()]
    paths.write_table(pd.concat(tables)[["scope", "class", "n", "recall"]], paths.COLLAPSES)


def write_searches(scopes: dict[str, tuple[list[str], Role]], classes: list[str], params: Params) -> None:
    """Write the metrics of the candidates of `adapt.method: auto` in each scope; only headers if there are none."""
    candidates = [pd.DataFrame(columns=["scope", *CANDIDATES])]
    validators = [pd.DataFrame(columns=["scope", *VALIDATORS])]
    for scope, (folds, role) in scopes.items():
        records = {fold: paths.read_json(paths.adaptation(fold)) for fold in folds}
        if not all(record.get("search") for record in records.values()):
            continue
        predictions = pd.concat([predictions_of_candidates(fold, role, classes) for fold in folds])
        chosen = {fold: record["method"] for fold, record in records.items()}
        try:
            found = evaluate_candidates(predictions, chosen, bootstrap_for(params, "ladder", scope))
        except ValueError as error:
            raise UserError(f"{paths.ADAPTED}: {error}; run adapt again") from error
        candidates.append(found.assign(scope=scope))
        ranked = evaluate_validators(predictions, {fold: record["search"] for fold, record in records.items()})
        validators.append(ranked.assign(scope=scope))
    paths.write_table(pd.concat(candidates), paths.SEARCH)
    paths.write_table(pd.concat(validators), paths.VALIDATORS)
