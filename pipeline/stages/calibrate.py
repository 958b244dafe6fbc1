"""calibrate: judge the folds, fit the calibrator, and, where it is opened, judge the final model on the locked set."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.assessing.calibrators import Temperature, activation_for, fit_temperature
from pipeline.assessing.judged import (
    Judged,
    Labelling,
    auc_of_folds,
    by_fold,
    class_table,
    forecast_table,
    judged_across,
    judged_by,
    label_numbers,
    logits_of,
    reliability_tables,
    roc_tables,
    site_forecasts,
    summary_of,
)
from pipeline.assessing.ladder import RUNGS, VALIDATORS, judge_rungs, judge_validators
from pipeline.assessing.metrics import Labels
from pipeline.assessing.patients import of_patients
from pipeline.assessing.summary import (
    OF_A_SITE,
    BadProbabilities,
    collapses,
    of_a_repetition,
    of_a_site,
    rows_of,
)
from pipeline.imaging.labels import targets_of
from pipeline.paths import Role
from pipeline.refusal import Refusal
from pipeline.schema import FINAL, Params
from pipeline.seeds import seed_for

Floats = NDArray[np.float64]

LEFT_OUT = ["site", "unlabelled", "fold", *OF_A_SITE, "state"]


def run(params: Params) -> None:
    """Write calibrator, predictions and figures."""
    facts = paths.read_json(paths.COHORT_FACTS)
    labelling = Labelling(facts["classes"], facts["task"])
    refuse_settings(params, facts["patients_known"])
    folds = list(params.split.numbered)
    held_out = judge_folds(folds, labelling)
    repetitions = {name: judge_folds(list(some), labelling) for name, some in params.split.repeated.items()}
    calibrator = fit_temperature(logits_of(held_out.cases), held_out.labels)
    locked = judge_locked(calibrator, labelling) if FINAL in params.split.folds else None
    show = locked is not None and len(locked.cases) > 0 and params.calibrate.test == "open"
    scopes = {"internal": held_out} | ({locked_name(): locked} if locked and show else {})
    scopes |= patient_scopes(scopes, labelling, params)
    left_out = {fold: judge_left_out(fold, labelling) for fold in params.split.left_out}
    write_figures(scopes, repetitions, labelling, params)
    write_repetitions(repetitions, labelling, params)
    write_left_out(left_out, labelling, params)
    write_collapses(scopes, left_out, labelling.classes)
    ladders = {"internal": (folds, Role.HELD_OUT)} | ({locked_name(): ([FINAL], Role.LOCKED)} if show else {})
    write_ladders({} if labelling.task == "multilabel" else ladders, labelling.classes, params)
    paths.write_table(pd.concat([forecast_table(judged, scope) for scope, judged in scopes.items()]), paths.PREDICTIONS)
    if locked and show:
        count_opening(locked)
    write_calibrator(calibrator, held_out, folds)
    paths.write_json(stamps(params, show), paths.STAMPS)


def refuse_settings(params: Params, patients_known: bool) -> None:
    """Make sure that every calibrator can be cross-fitted, and that patients are known where they are judged."""
    repeated = {f"folds of {name}": folds for name, folds in params.split.repeated.items()}
    for what, folds in {"numbered ones": params.split.numbered, **repeated}.items():
        if len(folds) < 2:
            raise Refusal(
                f"split.folds: name at least two {what}, so that a calibrator can be judged on cases it was not "
                "fitted on"
            )
    if params.calibrate.per_patient != "none" and not patients_known:
        raise Refusal("calibrate.per_patient: cohort.csv names no patients; give it patient_id, or set it to none")


def labels_of(cases: pd.DataFrame, labelling: Labelling) -> Labels:
    """Read the column `label`: numbers of classes (n,), or of a multilabel task 1, 0 and NaN for not known (n, C)."""
    if labelling.task == "multilabel":
        return targets_of(cases["label"].tolist(), labelling.classes, "multilabel").astype(np.float64)
    return label_numbers(cases, labelling.classes)


def judge_folds(folds: list[str], labelling: Labelling) -> Judged:
    """Pool what each fold held out, calibrated by the temperature of the other folds."""
    parts = []
    for fold in folds:
        part = scored(fold)
        part = part[part["role"] == Role.HELD_OUT]
        parts.append(part.assign(site_forecast=list(forecasts_from_site(fold, part, labelling))))
    cases = pd.concat(parts, ignore_index=True)
    if cases["case"].duplicated().any():
        raise AssertionError("a case was held out by two folds")
    return judged_across(cases, labels_of(cases, labelling))


def judge_locked(calibrator: Temperature, labelling: Labelling) -> Judged:
    """Score the locked cases by the final model and the calibrator that are released."""
    cases = scored(FINAL)
    cases = cases[cases["role"] == Role.LOCKED].reset_index(drop=True).assign(temperature=calibrator.value)
    return judged_by(calibrator, cases, labelling.classes, labels_of(cases, labelling))


def judge_left_out(fold: str, labelling: Labelling) -> Judged:
    """Score the cases of the site that a fold left out, calibrated by its inner cases if their logits were kept."""
    cases = scored(fold)
    inner, held_out = (cases[cases["role"] == role].reset_index(drop=True) for role in (Role.INNER, Role.HELD_OUT))
    labels = labels_of(held_out, labelling)
    calibrator, state = Temperature(1.0, activation_for(labels)), "uncalibrated"
    if len(inner):
        calibrator, state = fit_temperature(logits_of(inner), labels_of(inner, labelling)), "calibrated"
    held_out = held_out.assign(temperature=calibrator.value, state=state)
    return judged_by(calibrator, held_out, labelling.classes, labels)


def patient_scopes(scopes: dict[str, Judged], labelling: Labelling, params: Params) -> dict[str, Judged]:
    """Put the images of each patient together, by the rule that was declared; nothing where there is none."""
    rule = params.calibrate.per_patient
    if rule == "none":
        return {}
    try:
        return {f"{scope}_patients": of_patients(judged, rule, labelling) for scope, judged in scopes.items()}
    except ValueError as error:
        raise Refusal(f"calibrate.per_patient is {rule}, but {error}; set it to none to judge images alone") from error


def scored(fold: str) -> pd.DataFrame:
    """Read a fold's logits, each row stamped with the fold and the hash of the weights that gave it."""
    digest = hashlib.sha256(paths.model(fold).read_bytes()).hexdigest()
    return paths.read_table(paths.predictions(fold)).assign(fold=fold, model_sha256=digest)


def forecasts_from_site(fold: str, judged: pd.DataFrame, labelling: Labelling) -> Floats:
    """Forecast the held-out cases from their site alone."""
    cases = paths.read_table(paths.split(fold))
    training = cases[cases["role"] == Role.TRAIN]
    known = (training["site"].tolist(), labels_of(training, labelling))
    return site_forecasts(*known, judged["site"].tolist(), len(labelling.classes))


def locked_name() -> str:
    """Call the locked set external only if none of its sites was developed on."""
    return "external" if paths.read_json(paths.SPLIT_SUMMARY)["external"] else "test"


def write_figures(
    scopes: dict[str, Judged], repetitions: dict[str, Judged], labelling: Labelling, params: Params
) -> None:
    """Write the figures, per fold and pooled, and the tables behind the curves."""
    flat = []
    for scope, judged in scopes.items():
        for state, probabilities in (("uncalibrated", judged.uncalibrated), ("calibrated", judged.calibrated)):
            figures = figures_of(judged, probabilities, labelling, params, scope)
            if scope == "internal":
                figures |= auc_of_folds(judged, probabilities)
            paths.write_json(figures, paths.pooled_metrics(f"{scope}_{state}"))
            flat += rows_of(figures, f"{scope}_{state}")
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


def draws_for(params: Params, *names: str) -> tuple[int, float, int]:
    """Give the number of bootstrap replicates, the level of the intervals, and the seed of what is named."""
    return params.calibrate.n_bootstrap, params.calibrate.confidence, seed_for(params.seed, "bootstrap", *names)


def write_repetitions(repetitions: dict[str, Judged], labelling: Labelling, params: Params) -> None:
    """Write the pooled figures of each repetition of the partition, every one cross-fitted within itself."""
    of_name = {"r1": paths.read_json(paths.pooled_metrics("internal_calibrated"))}
    for name, judged in repetitions.items():
        of_name[name] = figures_of(judged, judged.calibrated, labelling, params, name)
    rows = [{"repetition": name, **of_a_repetition(figures)} for name, figures in of_name.items()]
    paths.write_table(pd.DataFrame(rows), paths.REPEATS)


def write_calibrator(calibrator: Temperature, held_out: Judged, folds: list[str]) -> None:
    """Write the calibrator that is released, and those by which each fold was judged."""
    values = {
        "method": "temperature",
        "activation": calibrator.activation,
        "temperature": calibrator.value,
        "fitted_on": {"cases": len(held_out.labels), "folds": folds},
        "cross_fitted": dict(zip(held_out.cases["fold"], held_out.cases["temperature"], strict=True)),
    }
    paths.write_json(values, paths.CALIBRATOR)


def write_left_out(left_out: dict[str, Judged], labelling: Labelling, params: Params) -> None:
    """Write the figures of each site that was left out, and whether its unlabelled images had been seen."""
    rows = []
    for fold, judged in left_out.items():
        figures = figures_of(judged, judged.calibrated, labelling, params, fold)
        site, state = judged.cases.loc[0, ["site", "state"]]
        paths.write_json(figures | {"state": state}, paths.fold_metrics(fold))
        known = {"site": site, "unlabelled": unlabelled_images(fold, site), "fold": fold, "state": state}
        rows.append(known | of_a_site(figures, judged.calibrated, judged.labels))
    paths.write_table(pd.DataFrame(rows, columns=LEFT_OUT), paths.LEFT_OUT)


def unlabelled_images(fold: str, site: str) -> str:
    """Say whether adaptation saw unlabelled images of a site: "seen", "unseen", or "none there"."""
    if site in paths.read_json(paths.adaptation(fold))["unlabelled_sites"]:
        return "seen"
    cases = paths.read_table(paths.split(FINAL))
    return "unseen" if ((cases["role"] == Role.UNLABELLED) & (cases["site"] == site)).any() else "none there"


def write_collapses(scopes: dict[str, Judged], left_out: dict[str, Judged], classes: list[str]) -> None:
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


def forecasts_of_rungs(fold: str, role: Role, classes: list[str]) -> pd.DataFrame:
    """Read the logits of each rung for the cases that a fold judges, with what is known of them."""
    cases, logits = paths.read_table(paths.split(fold)), paths.read_table(paths.ladder(fold))
    cases, logits = (table[table["role"] == role] for table in (cases, logits))
    if set(cases["case"]) != set(logits["case"]):
        raise Refusal(f"{paths.ladder(fold)} has other cases than {paths.split(fold)}; run adapt --fold {fold} again")
    known = cases[["case", "patient"]].assign(fold=fold, label=label_numbers(cases, classes))
    return known.merge(logits.drop(columns="role"), on="case")


def count_opening(locked: Judged) -> None:
    """Note that these forecasts of the locked set have been looked at, once for each different model."""
    digest = hashlib.sha256(locked.calibrated.tobytes()).hexdigest()
    known = paths.OPENINGS.read_text() if paths.OPENINGS.exists() else "model_sha256,forecasts_sha256,cases\n"
    if digest not in known:
        paths.OPENINGS.write_text(f"{known}{locked.cases['model_sha256'].iloc[0]},{digest},{len(locked.cases)}\n")


def stamps(params: Params, shown: bool) -> dict[str, Any]:
    """Collect what must stand beside every figure."""
    facts, split = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.SPLIT_SUMMARY)
    trained = [FINAL] * (FINAL in params.split.folds) + list(params.split.numbered)
    adaptations = [paths.read_json(paths.adaptation(fold)) for fold in trained]
    locked_seen = sorted(set(split["locked_sites"]) & set(adaptations[0]["unlabelled_sites"]))
    return {
        "simulated": facts["simulated"],
        "unit_of_intervals": "patient" if facts["patients_known"] else "image",
        "locked_set": {"scope": locked_name(), "shown": shown, "acknowledged_leaks": split["acknowledged_leaks"]},
        "sites_seen_unlabelled": locked_seen,
        "judged_images_seen": any(record["judged_seen"] for record in adaptations),
    }
