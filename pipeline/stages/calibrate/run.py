"""calibrate: turn logits into probabilities; evaluate the folds and, where it is opened, what is released."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.errors import UserError
from pipeline.metrics.calibrators.calibrator import digest_of
from pipeline.metrics.calibrators.fitting import Unsuitable
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
from pipeline.metrics.guards import LeakageError
from pipeline.metrics.summary import (
    OF_A_SITE,
    BadProbabilities,
    collapses,
    in_short,
    of_a_repetition,
    of_a_site,
    rows_of,
)
from pipeline.paths import Role
from pipeline.schema import FINAL, Params
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.assessment import TABLES, Settings, assess
from pipeline.stages.calibrate.candidates import CANDIDATES, VALIDATORS, evaluate_candidates, evaluate_validators
from pipeline.stages.calibrate.evaluated_sets import evaluate_folds, evaluate_left_out, evaluate_test_set, released_by
from pipeline.stages.calibrate.patients import Rule, can_be_joined, patients_first
from pipeline.stages.calibrate.predictions import (
    name_of_test_set,
    predictions_of_candidates,
    unlabelled_images,
)
from pipeline.stages.calibrate.released import Released
from pipeline.stages.calibrate.subject import bootstrap_for

Floats = NDArray[np.float64]
Scopes = dict[str, EvaluatedCases]
Elsewhere = dict[str, Mapping[str, EvaluatedCases]]

LEFT_OUT = ["site", "unlabelled", "fold", *OF_A_SITE, "state"]


def run(params: Params) -> None:
    """Write calibrator, predictions and metrics."""
    facts = paths.read_json(paths.COHORT_FACTS)
    labelling = TaskSpec(facts["classes"], facts["task"])
    refuse_settings(params, facts["patients_known"])
    try:
        held_out = evaluate_folds(list(params.split.numbered), labelling, params)
        repetitions = {
            name: evaluate_folds(list(some), labelling, params) for name, some in params.split.repeated.items()
        }
        released = released_by(held_out, labelling, params)
        test = evaluate_test_set(released, labelling, params)
        method = params.calibrate.method
        left_out = {fold: evaluate_left_out(fold, held_out, labelling, method) for fold in params.split.left_out}
    except Unsuitable as error:
        raise UserError(f"calibrate.method is {params.calibrate.method}, but {error}") from error
    except LeakageError as error:
        raise UserError(f"{paths.FOLDS}: {error}; run split, adapt and finetune again") from error
    show = test is not None and params.calibrate.test == "open"
    evaluated = [held_out, released.development, *([test] if test else [])]
    rule = rule_for_patients(evaluated, facts["patients_known"], params)
    scopes: Scopes = {"internal": held_out} | ({name_of_test_set(): test} if test and show else {})
    elsewhere: Elsewhere = {
        "internal": other_folds(held_out),
        name_of_test_set(): {released.name: released.development},
    }
    scopes, elsewhere = by_patients(scopes, elsewhere, rule, labelling)
    write_metrics(scopes, repetitions, labelling, params)
    write_assessment(scopes, elsewhere, labelling, params)
    write_repetitions(repetitions, labelling, params)
    write_left_out(left_out, labelling, params)
    write_collapses(scopes, left_out, labelling.classes)
    searches = {"internal": (list(params.split.numbered), Role.HELD_OUT)}
    searches |= {name_of_test_set(): ([FINAL], Role.TEST)} if show and released.members == [FINAL] else {}
    write_searches({} if labelling.task == "multilabel" else searches, labelling.classes, params)
    paths.write_table(
        pd.concat([prediction_table(evaluated, scope) for scope, evaluated in scopes.items()]), paths.PREDICTIONS
    )
    if test and show:
        count_opening(test)
    write_calibrator(released, held_out, params)
    paths.write_json({"scopes": list(scopes)} | stamps(params, show, rule), paths.STAMPS)


def refuse_settings(params: Params, patients_known: bool) -> None:
    """Make sure that every calibrator can be cross-fitted, and that patients are known where they are evaluated."""
    repeated = {f"folds of {name}": folds for name, folds in params.split.repeated.items()}
    for what, folds in {"numbered ones": params.split.numbered, **repeated}.items():
        if len(folds) < 2:
            raise UserError(
                f"split.folds: name at least two {what}, so that no case is evaluated by a map fitted on it"
            )
    if params.calibrate.per_patient in ("mean", "max") and not patients_known:
        raise UserError("calibrate.per_patient: cohort.csv names no patients; give it patient_id, or set it to none")


def rule_for_patients(evaluated: list[EvaluatedCases], patients_known: bool, params: Params) -> Rule | None:
    """Resolve `calibrate.per_patient: auto`: the mean, where patients have several images, which all agree."""
    rule = params.calibrate.per_patient
    if rule == "auto":
        return "mean" if patients_known and can_be_joined(evaluated) else None
    return None if rule == "none" else rule


def by_patients(
    scopes: Scopes, elsewhere: Elsewhere, rule: Rule | None, labelling: TaskSpec
) -> tuple[Scopes, Elsewhere]:
    """Evaluate patients first, and images after them, where there is a rule."""
    if rule is None:
        return scopes, elsewhere
    try:
        return patients_first(scopes, elsewhere, rule, labelling)
    except ValueError as error:
        raise UserError(
            f"calibrate.per_patient is {rule}, but {error}; set it to none to evaluate images alone"
        ) from error


def write_metrics(scopes: Scopes, repetitions: Scopes, labelling: TaskSpec, params: Params) -> None:
    """Write the metrics, per fold and pooled, and the tables behind the curves."""
    flat, short = [], dict[str, Any]()
    for scope, evaluated in scopes.items():
        for state, probabilities in (("uncalibrated", evaluated.uncalibrated), ("calibrated", evaluated.calibrated)):
            metrics = metrics_of(evaluated, probabilities, labelling, params, scope)
            if scope.startswith("internal"):
                metrics |= auc_of_folds(evaluated, probabilities, bootstrap_for(params, scope))
            paths.write_json(metrics, paths.pooled_metrics(f"{scope}_{state}"))
            flat += rows_of(metrics, f"{scope}_{state}")
        short.setdefault("internal" if scope.startswith("internal") else "test", in_short(metrics))
    paths.write_json(short, paths.SUMMARY)
    for pooled in (scopes["internal"], *repetitions.values()):
        for fold, part in by_fold(pooled).items():
            metrics = metrics_of(part, part.calibrated, labelling, params, f"fold {fold}")
            paths.write_json(metrics, paths.fold_metrics(fold))
            flat += rows_of(metrics, f"fold_{fold}")
    paths.write_table(pd.DataFrame(flat), paths.ALL_METRICS)
    paths.write_table(roc_tables(scopes), paths.ROC)
    paths.write_table(reliability_tables(scopes, params.calibrate.bins), paths.RELIABILITY)
    classes = [
        class_table(evaluated, labelling, bootstrap_for(params, "classes", scope)).assign(scope=scope)
        for scope, evaluated in scopes.items()
    ]
    paths.write_table(pd.concat(classes), paths.PER_CLASS)


def metrics_of(
    evaluated: EvaluatedCases, probabilities: Floats, labelling: TaskSpec, params: Params, name: str
) -> dict[str, Any]:
    """Compute the metrics of a set of cases, or say which of them corrupts it."""
    try:
        bins, bootstrap = params.calibrate.bins, bootstrap_for(params, name)
        return summary_of(evaluated, probabilities, labelling, bins=bins, bootstrap=bootstrap)
    except BadProbabilities as error:
        raise UserError(f"{name}: {error}; look at the training curves in {paths.FOLDS}") from error


def write_assessment(scopes: Scopes, elsewhere: Elsewhere, labelling: TaskSpec, params: Params) -> None:
    """Write every table of `assessment`, all scopes in one."""
    settings = Settings(**{name: getattr(params.calibrate, name) for name in Settings.__dataclass_fields__})
    found = {
        scope: assess(evaluated, elsewhere[scope], labelling, settings, seed_for(params.seed, "bootstrap", scope))
        for scope, evaluated in scopes.items()
    }
    for name in TABLES:
        tables = [tables[name].assign(scope=scope) for scope, tables in found.items()]
        paths.write_table(pd.concat(tables), paths.assessed(name))


def write_repetitions(repetitions: Scopes, labelling: TaskSpec, params: Params) -> None:
    """Write the pooled metrics of each repetition of the partition, every one cross-fitted within itself."""
    of_name = {"r1": paths.read_json(paths.pooled_metrics("internal_calibrated"))}
    for name, evaluated in repetitions.items():
        of_name[name] = metrics_of(evaluated, evaluated.calibrated, labelling, params, name)
    rows = [{"repetition": name, **of_a_repetition(metrics)} for name, metrics in of_name.items()]
    paths.write_table(pd.DataFrame(rows), paths.REPEATS)


def write_calibrator(released: Released, held_out: EvaluatedCases, params: Params) -> None:
    """Write the map that is released, and those by which each fold was evaluated."""
    maps = {fold: one.as_json() | {"sha256": digest_of(one)} for fold, one in calibrators_of_folds(held_out).items()}
    paths.write_json(released.as_json() | {"form": params.calibrate.form, "cross_fitted": maps}, paths.CALIBRATOR)


def write_left_out(left_out: Scopes, labelling: TaskSpec, params: Params) -> None:
    """Write the metrics of each site that was left out, and whether its unlabelled images had been seen."""
    rows = []
    for fold, evaluated in left_out.items():
        metrics = metrics_of(evaluated, evaluated.calibrated, labelling, params, fold)
        site, state = evaluated.cases.loc[0, ["site", "state"]]
        paths.write_json(metrics | {"state": state}, paths.fold_metrics(fold))
        known = {"site": site, "unlabelled": unlabelled_images(fold, site), "fold": fold, "state": state}
        rows.append(known | of_a_site(metrics, evaluated.calibrated, evaluated.labels))
    paths.write_table(pd.DataFrame(rows, columns=LEFT_OUT), paths.LEFT_OUT)


def write_collapses(scopes: Scopes, left_out: Scopes, classes: list[str]) -> None:
    """Write every class that a evaluated set has and none of whose cases was found."""
    of_folds = {f"fold_{fold}": part for fold, part in by_fold(scopes["internal"]).items()}
    sets = scopes | of_folds | left_out
    tables = [collapses(one.calibrated, one.labels, classes).assign(scope=name) for name, one in sets.items()]
    paths.write_table(pd.concat(tables)[["scope", "class", "n", "recall"]], paths.COLLAPSES)


def write_searches(searches: dict[str, tuple[list[str], Role]], classes: list[str], params: Params) -> None:
    """Write what the candidates of `adapt.method: auto` were worth in each scope; header only where there are none."""
    candidates, validators = (
        [pd.DataFrame(columns=["scope", *CANDIDATES])],
        [pd.DataFrame(columns=["scope", *VALIDATORS])],
    )
    for scope, (folds, role) in searches.items():
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
        ordered = evaluate_validators(predictions, {fold: record["search"] for fold, record in records.items()})
        validators.append(ordered.assign(scope=scope))
    paths.write_table(pd.concat(candidates), paths.SEARCH)
    paths.write_table(pd.concat(validators), paths.VALIDATORS)


def count_opening(test: EvaluatedCases) -> None:
    """Note that these predictions of the test set have been looked at, once for each different model."""
    digest = hashlib.sha256(test.calibrated.tobytes()).hexdigest()
    known = paths.OPENINGS.read_text() if paths.OPENINGS.exists() else "model_sha256,predictions_sha256,cases\n"
    if digest not in known:
        paths.OPENINGS.write_text(f"{known}{test.cases['model_sha256'].iloc[0]},{digest},{len(test.cases)}\n")


def stamps(params: Params, shown: bool, rule: Rule | None) -> dict[str, Any]:
    """Collect what must stand beside every metric."""
    facts, split = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.SPLIT_SUMMARY)
    trained = [FINAL] * (FINAL in params.split.folds) + list(params.split.numbered)
    adaptations = [paths.read_json(paths.adaptation(fold)) for fold in trained]
    test_seen = sorted(set(split["test_sites"]) & set(adaptations[0]["unlabelled_sites"]))
    return {
        "simulated": facts["simulated"],
        "unit_of_intervals": "patient" if facts["patients_known"] else "image",
        "per_patient": rule or "none",
        "test_set": {"scope": name_of_test_set(), "shown": shown, "acknowledged_leaks": split["acknowledged_leaks"]},
        "sites_seen_unlabelled": test_seen,
        "evaluated_images_seen": any(record["evaluated_seen"] for record in adaptations),
    }
