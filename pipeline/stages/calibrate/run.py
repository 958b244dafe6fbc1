"""calibrate: turn logits into probabilities; judge the folds and, where it is opened, what is released."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.errors import Refusal
from pipeline.metrics.calibrators.calibrator import digest_of
from pipeline.metrics.calibrators.fitting import Unsuitable
from pipeline.metrics.evaluation import (
    Judged,
    Labelling,
    auc_of_folds,
    by_fold,
    calibrators_of_folds,
    class_table,
    forecast_table,
    other_folds,
    reliability_tables,
    roc_tables,
    summary_of,
)
from pipeline.metrics.guards import Seen
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
from pipeline.stages.calibrate.candidates import RUNGS, VALIDATORS, judge_rungs, judge_validators
from pipeline.stages.calibrate.evaluated_sets import judge_folds, judge_left_out, judge_locked, released_by
from pipeline.stages.calibrate.patients import Rule, can_be_joined, patients_first
from pipeline.stages.calibrate.predictions import (
    forecasts_of_rungs,
    locked_name,
    unlabelled_images,
)
from pipeline.stages.calibrate.released import Released

Floats = NDArray[np.float64]
Scopes = dict[str, Judged]
Elsewhere = dict[str, Mapping[str, Judged]]

LEFT_OUT = ["site", "unlabelled", "fold", *OF_A_SITE, "state"]


def run(params: Params) -> None:
    """Write calibrator, predictions and figures."""
    facts = paths.read_json(paths.COHORT_FACTS)
    labelling = Labelling(facts["classes"], facts["task"])
    refuse_settings(params, facts["patients_known"])
    try:
        held_out = judge_folds(list(params.split.numbered), labelling, params)
        repetitions = {name: judge_folds(list(some), labelling, params) for name, some in params.split.repeated.items()}
        released = released_by(held_out, labelling, params)
        locked = judge_locked(released, labelling, params)
        method = params.calibrate.method
        left_out = {fold: judge_left_out(fold, held_out, labelling, method) for fold in params.split.left_out}
    except Unsuitable as error:
        raise Refusal(f"calibrate.method is {params.calibrate.method}, but {error}") from error
    except Seen as error:
        raise Refusal(f"{paths.FOLDS}: {error}; run split, adapt and finetune again") from error
    show = locked is not None and params.calibrate.test == "open"
    judged = [held_out, released.development, *([locked] if locked else [])]
    rule = rule_for_patients(judged, facts["patients_known"], params)
    scopes: Scopes = {"internal": held_out} | ({locked_name(): locked} if locked and show else {})
    elsewhere: Elsewhere = {"internal": other_folds(held_out), locked_name(): {released.name: released.development}}
    scopes, elsewhere = by_patients(scopes, elsewhere, rule, labelling)
    write_figures(scopes, repetitions, labelling, params)
    write_assessment(scopes, elsewhere, labelling, params)
    write_repetitions(repetitions, labelling, params)
    write_left_out(left_out, labelling, params)
    write_collapses(scopes, left_out, labelling.classes)
    ladders = {"internal": (list(params.split.numbered), Role.HELD_OUT)}
    ladders |= {locked_name(): ([FINAL], Role.LOCKED)} if show and released.members == [FINAL] else {}
    write_ladders({} if labelling.task == "multilabel" else ladders, labelling.classes, params)
    paths.write_table(pd.concat([forecast_table(judged, scope) for scope, judged in scopes.items()]), paths.PREDICTIONS)
    if locked and show:
        count_opening(locked)
    write_calibrator(released, held_out, params)
    paths.write_json({"scopes": list(scopes)} | stamps(params, show, rule), paths.STAMPS)


def refuse_settings(params: Params, patients_known: bool) -> None:
    """Make sure that every calibrator can be cross-fitted, and that patients are known where they are judged."""
    repeated = {f"folds of {name}": folds for name, folds in params.split.repeated.items()}
    for what, folds in {"numbered ones": params.split.numbered, **repeated}.items():
        if len(folds) < 2:
            raise Refusal(f"split.folds: name at least two {what}, so that no case is judged by a map fitted on it")
    if params.calibrate.per_patient in ("mean", "max") and not patients_known:
        raise Refusal("calibrate.per_patient: cohort.csv names no patients; give it patient_id, or set it to none")


def rule_for_patients(judged: list[Judged], patients_known: bool, params: Params) -> Rule | None:
    """Resolve `calibrate.per_patient: auto`: the mean, where patients have several images, which all agree."""
    rule = params.calibrate.per_patient
    if rule == "auto":
        return "mean" if patients_known and can_be_joined(judged) else None
    return None if rule == "none" else rule


def by_patients(
    scopes: Scopes, elsewhere: Elsewhere, rule: Rule | None, labelling: Labelling
) -> tuple[Scopes, Elsewhere]:
    """Judge patients first, and images after them, where there is a rule."""
    if rule is None:
        return scopes, elsewhere
    try:
        return patients_first(scopes, elsewhere, rule, labelling)
    except ValueError as error:
        raise Refusal(f"calibrate.per_patient is {rule}, but {error}; set it to none to judge images alone") from error


def write_figures(scopes: Scopes, repetitions: Scopes, labelling: Labelling, params: Params) -> None:
    """Write the figures, per fold and pooled, and the tables behind the curves."""
    flat, short = [], dict[str, Any]()
    for scope, judged in scopes.items():
        for state, probabilities in (("uncalibrated", judged.uncalibrated), ("calibrated", judged.calibrated)):
            figures = figures_of(judged, probabilities, labelling, params, scope)
            if scope.startswith("internal"):
                figures |= auc_of_folds(judged, probabilities, *draws_for(params, scope))
            paths.write_json(figures, paths.pooled_metrics(f"{scope}_{state}"))
            flat += rows_of(figures, f"{scope}_{state}")
        short.setdefault("internal" if scope.startswith("internal") else "locked", in_short(figures))
    paths.write_json(short, paths.SUMMARY)
    for pooled in (scopes["internal"], *repetitions.values()):
        for fold, part in by_fold(pooled).items():
            figures = figures_of(part, part.calibrated, labelling, params, f"fold {fold}")
            paths.write_json(figures, paths.fold_metrics(fold))
            flat += rows_of(figures, f"fold_{fold}")
    paths.write_table(pd.DataFrame(flat), paths.FIGURES)
    paths.write_table(roc_tables(scopes), paths.ROC)
    paths.write_table(reliability_tables(scopes, params.calibrate.bins), paths.RELIABILITY)
    classes = [
        class_table(judged, labelling, *draws_for(params, "classes", scope)).assign(scope=scope)
        for scope, judged in scopes.items()
    ]
    paths.write_table(pd.concat(classes), paths.PER_CLASS)


def figures_of(
    judged: Judged, probabilities: Floats, labelling: Labelling, params: Params, name: str
) -> dict[str, Any]:
    """Compute the figures of a set of cases, or say which of them spoils it."""
    try:
        return summary_of(judged, probabilities, labelling, params.calibrate.bins, *draws_for(params, name))
    except BadProbabilities as error:
        raise Refusal(f"{name}: {error}; look at the training curves in {paths.FOLDS}") from error


def write_assessment(scopes: Scopes, elsewhere: Elsewhere, labelling: Labelling, params: Params) -> None:
    """Write every table of `assessment`, all scopes in one."""
    settings = Settings(**{name: getattr(params.calibrate, name) for name in Settings.__dataclass_fields__})
    found = {
        scope: assess(judged, elsewhere[scope], labelling, settings, seed_for(params.seed, "bootstrap", scope))
        for scope, judged in scopes.items()
    }
    for name in TABLES:
        tables = [tables[name].assign(scope=scope) for scope, tables in found.items()]
        paths.write_table(pd.concat(tables), paths.assessed(name))


def draws_for(params: Params, *names: str) -> tuple[int, float, int]:
    """Give the number of bootstrap replicates, the level of the intervals, and the seed of what is named."""
    return params.calibrate.n_bootstrap, params.calibrate.confidence, seed_for(params.seed, "bootstrap", *names)


def write_repetitions(repetitions: Scopes, labelling: Labelling, params: Params) -> None:
    """Write the pooled figures of each repetition of the partition, every one cross-fitted within itself."""
    of_name = {"r1": paths.read_json(paths.pooled_metrics("internal_calibrated"))}
    for name, judged in repetitions.items():
        of_name[name] = figures_of(judged, judged.calibrated, labelling, params, name)
    rows = [{"repetition": name, **of_a_repetition(figures)} for name, figures in of_name.items()]
    paths.write_table(pd.DataFrame(rows), paths.REPEATS)


def write_calibrator(released: Released, held_out: Judged, params: Params) -> None:
    """Write the map that is released, and those by which each fold was judged."""
    maps = {fold: one.as_json() | {"sha256": digest_of(one)} for fold, one in calibrators_of_folds(held_out).items()}
    paths.write_json(released.as_json() | {"form": params.calibrate.form, "cross_fitted": maps}, paths.CALIBRATOR)


def write_left_out(left_out: Scopes, labelling: Labelling, params: Params) -> None:
    """Write the figures of each site that was left out, and whether its unlabelled images had been seen."""
    rows = []
    for fold, judged in left_out.items():
        figures = figures_of(judged, judged.calibrated, labelling, params, fold)
        site, state = judged.cases.loc[0, ["site", "state"]]
        paths.write_json(figures | {"state": state}, paths.fold_metrics(fold))
        known = {"site": site, "unlabelled": unlabelled_images(fold, site), "fold": fold, "state": state}
        rows.append(known | of_a_site(figures, judged.calibrated, judged.labels))
    paths.write_table(pd.DataFrame(rows, columns=LEFT_OUT), paths.LEFT_OUT)


def write_collapses(scopes: Scopes, left_out: Scopes, classes: list[str]) -> None:
    """Write every class that a judged set has and none of whose cases was found."""
    of_folds = {f"fold_{fold}": part for fold, part in by_fold(scopes["internal"]).items()}
    sets = scopes | of_folds | left_out
    tables = [collapses(one.calibrated, one.labels, classes).assign(scope=name) for name, one in sets.items()]
    paths.write_table(pd.concat(tables)[["scope", "class", "n", "recall"]], paths.COLLAPSES)


def write_ladders(ladders: dict[str, tuple[list[str], Role]], classes: list[str], params: Params) -> None:
    """Write what the rungs of `adapt.method: auto` were worth in each scope; header only where there are none."""
    rungs, validators = [pd.DataFrame(columns=["scope", *RUNGS])], [pd.DataFrame(columns=["scope", *VALIDATORS])]
    for scope, (folds, role) in ladders.items():
        records = {fold: paths.read_json(paths.adaptation(fold)) for fold in folds}
        if not all(record.get("ladder") for record in records.values()):
            continue
        forecasts = pd.concat([forecasts_of_rungs(fold, role, classes) for fold in folds])
        chosen = {fold: record["method"] for fold, record in records.items()}
        try:
            found = judge_rungs(forecasts, chosen, *draws_for(params, "ladder", scope))
        except ValueError as error:
            raise Refusal(f"{paths.ADAPTED}: {error}; run adapt again") from error
        rungs.append(found.assign(scope=scope))
        ordered = judge_validators(forecasts, {fold: record["ladder"] for fold, record in records.items()})
        validators.append(ordered.assign(scope=scope))
    paths.write_table(pd.concat(rungs), paths.LADDER)
    paths.write_table(pd.concat(validators), paths.VALIDATORS)


def count_opening(locked: Judged) -> None:
    """Note that these forecasts of the locked set have been looked at, once for each different model."""
    digest = hashlib.sha256(locked.calibrated.tobytes()).hexdigest()
    known = paths.OPENINGS.read_text() if paths.OPENINGS.exists() else "model_sha256,forecasts_sha256,cases\n"
    if digest not in known:
        paths.OPENINGS.write_text(f"{known}{locked.cases['model_sha256'].iloc[0]},{digest},{len(locked.cases)}\n")


def stamps(params: Params, shown: bool, rule: Rule | None) -> dict[str, Any]:
    """Collect what must stand beside every figure."""
    facts, split = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.SPLIT_SUMMARY)
    trained = [FINAL] * (FINAL in params.split.folds) + list(params.split.numbered)
    adaptations = [paths.read_json(paths.adaptation(fold)) for fold in trained]
    locked_seen = sorted(set(split["locked_sites"]) & set(adaptations[0]["unlabelled_sites"]))
    return {
        "simulated": facts["simulated"],
        "unit_of_intervals": "patient" if facts["patients_known"] else "image",
        "per_patient": rule or "none",
        "locked_set": {"scope": locked_name(), "shown": shown, "acknowledged_leaks": split["acknowledged_leaks"]},
        "sites_seen_unlabelled": locked_seen,
        "judged_images_seen": any(record["judged_seen"] for record in adaptations),
    }
