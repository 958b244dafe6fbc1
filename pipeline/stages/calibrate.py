"""calibrate: judge the folds, fit the calibrator, and, where it is opened, judge the final model on the locked set."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.assessing.calibrators import Temperature, cross_fitted, fit_temperature
from pipeline.assessing.judged import (
    Judged,
    auc_of_folds,
    by_fold,
    forecast_table,
    judged_by,
    label_numbers,
    logits_of,
    roc_table,
)
from pipeline.assessing.ladder import RUNGS, VALIDATORS, judge_rungs, judge_validators
from pipeline.assessing.summary import (
    OF_A_SITE,
    BadProbabilities,
    collapses,
    of_a_site,
    per_class,
    reliability,
    rows_of,
    site_baseline,
    summarise,
)
from pipeline.params import FINAL, Params
from pipeline.paths import Role
from pipeline.refusal import Refusal
from pipeline.seeds import seed_for

Floats = NDArray[np.float64]

LEFT_OUT = ["site", "unlabelled", "fold", *OF_A_SITE, "state"]
COLLAPSES = ["scope", "class", "n", "recall"]


def run(params: Params) -> None:
    """Write calibrator, predictions and figures."""
    classes = paths.read_json(paths.COHORT_FACTS)["classes"]
    folds = list(params.split.numbered)
    if len(folds) < 2:
        raise Refusal(
            "split.folds: name at least two numbered ones, so that a calibrator can be judged on cases it was not "
            "fitted on"
        )
    held_out = judge_folds(folds, classes)
    calibrator = fit_temperature(logits_of(held_out.cases), held_out.labels)
    temperatures = dict(zip(held_out.cases["fold"], held_out.cases["temperature"], strict=True))
    locked = judge_locked(calibrator, classes) if FINAL in params.split.folds else None
    show = locked is not None and len(locked.cases) > 0 and params.calibrate.test == "open"
    scopes = {"internal": held_out} | ({locked_name(): locked} if locked and show else {})
    left_out = {fold: judge_left_out(fold, classes) for fold in params.split.left_out}
    write_figures(scopes, classes, params)
    write_left_out(left_out, params)
    write_collapses(scopes, left_out, classes)
    ladders = {"internal": (folds, Role.HELD_OUT)} | ({locked_name(): ([FINAL], Role.LOCKED)} if show else {})
    write_ladders(ladders, classes, params)
    forecasts = [forecast_table(judged, scope) for scope, judged in scopes.items()]
    paths.write_table(pd.concat(forecasts), paths.PREDICTIONS)
    if locked and show:
        count_opening(locked)
    paths.write_json(
        {
            "method": "temperature",
            "temperature": calibrator.value,
            "fitted_on": {"cases": len(held_out.labels), "folds": folds},
            "cross_fitted": temperatures,
        },
        paths.CALIBRATOR,
    )
    paths.write_json(stamps(params, show), paths.STAMPS)


def judge_folds(folds: list[str], classes: list[str]) -> Judged:
    """Pool what each fold held out, calibrated by the temperature of the other folds."""
    parts = []
    for fold in folds:
        part = scored(fold)
        part = part[part["role"] == Role.HELD_OUT]
        parts.append(part.assign(site_forecast=list(site_forecasts(fold, part, classes))))
    cases = pd.concat(parts, ignore_index=True)
    if cases["case"].duplicated().any():
        raise AssertionError("a case was held out by two folds")
    labels = label_numbers(cases, classes)
    calibrated, temperatures = cross_fitted(logits_of(cases), labels, cases["fold"].to_numpy(dtype=str))
    cases["temperature"] = cases["fold"].map(temperatures)
    return Judged(cases, labels, Temperature(1.0).apply(logits_of(cases)), calibrated)


def judge_locked(calibrator: Temperature, classes: list[str]) -> Judged:
    """Score the locked cases by the final model and the calibrator that are released."""
    cases = scored(FINAL)
    cases = cases[cases["role"] == Role.LOCKED].reset_index(drop=True).assign(temperature=calibrator.value)
    return judged_by(calibrator, cases, classes)


def judge_left_out(fold: str, classes: list[str]) -> Judged:
    """Score the cases of the site that a fold left out, calibrated by its inner cases if their logits were kept."""
    cases = scored(fold)
    inner, held_out = (cases[cases["role"] == role].reset_index(drop=True) for role in (Role.INNER, Role.HELD_OUT))
    calibrator = fit_temperature(logits_of(inner), label_numbers(inner, classes)) if len(inner) else Temperature(1.0)
    state = "calibrated" if len(inner) else "uncalibrated"
    return judged_by(calibrator, held_out.assign(temperature=calibrator.value, state=state), classes)


def scored(fold: str) -> pd.DataFrame:
    """Read a fold's logits, each row stamped with the fold and the hash of the weights that gave it."""
    digest = hashlib.sha256(paths.model(fold).read_bytes()).hexdigest()
    return paths.read_table(paths.predictions(fold)).assign(fold=fold, model_sha256=digest)


def site_forecasts(fold: str, judged: pd.DataFrame, classes: list[str]) -> Floats:
    """Forecast the held-out cases from their site alone."""
    cases = paths.read_table(paths.split(fold))
    training = cases[cases["role"] == Role.TRAIN]
    return site_baseline(
        training["site"].tolist(), label_numbers(training, classes), judged["site"].tolist(), len(classes)
    )


def locked_name() -> str:
    """Call the locked set external only if none of its sites was developed on."""
    return "external" if paths.read_json(paths.SPLIT_SUMMARY)["external"] else "test"


def write_figures(scopes: dict[str, Judged], classes: list[str], params: Params) -> None:
    """Write the figures, per fold and pooled, and the tables behind the curves."""
    flat, curves, diagrams = [], [], []
    for scope, judged in scopes.items():
        for state, probabilities in (("uncalibrated", judged.uncalibrated), ("calibrated", judged.calibrated)):
            figures = figures_of(judged, probabilities, params, scope)
            if scope == "internal":
                figures |= auc_of_folds(judged, probabilities)
            paths.write_json(figures, paths.pooled_metrics(f"{scope}_{state}"))
            flat += rows_of(figures, f"{scope}_{state}")
            table = reliability(probabilities, judged.labels, params.calibrate.bins)
            diagrams.append(table.assign(scope=f"{scope}_{state}"))
        curve = roc_table(judged)
        curve.insert(0, "scope", scope)
        curves.append(curve)
    for fold, part in by_fold(scopes["internal"]).items():
        figures = figures_of(part, part.calibrated, params, f"fold {fold}")
        paths.write_json(figures, paths.fold_metrics(fold))
        flat += rows_of(figures, f"fold_{fold}")
    paths.write_table(pd.DataFrame(flat), paths.FIGURES)
    paths.write_table(pd.concat(curves), paths.ROC)
    paths.write_table(pd.concat(diagrams), paths.RELIABILITY)
    paths.write_table(
        pd.concat([classes_of(judged, classes, scope, params) for scope, judged in scopes.items()]), paths.PER_CLASS
    )


def figures_of(judged: Judged, probabilities: Floats, params: Params, name: str) -> dict[str, Any]:
    """Compute the figures of a set of cases, or say which of them spoils it."""
    settings = params.calibrate
    try:
        return summarise(
            probabilities,
            judged.labels,
            judged.patients,
            settings.bins,
            settings.n_bootstrap,
            settings.confidence,
            seed_for(params.seed, "bootstrap", name),
        )
    except BadProbabilities as error:
        raise Refusal(f"{name}: {error}; look at the training curves in {paths.FOLDS}") from error


def classes_of(judged: Judged, classes: list[str], scope: str, params: Params) -> pd.DataFrame:
    """Tabulate each class, one against the rest."""
    draws = draws_for(params, "classes", scope)
    return per_class(judged.calibrated, judged.labels, judged.patients, classes, *draws).assign(scope=scope)


def draws_for(params: Params, *names: str) -> tuple[int, float, int]:
    """Give the number of bootstrap replicates, the level of the intervals, and the seed of what is named."""
    return params.calibrate.n_bootstrap, params.calibrate.confidence, seed_for(params.seed, "bootstrap", *names)


def write_left_out(left_out: dict[str, Judged], params: Params) -> None:
    """Write the figures of each site that was left out, and whether its unlabelled images had been seen."""
    rows = []
    for fold, judged in left_out.items():
        figures = figures_of(judged, judged.calibrated, params, fold)
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
    paths.write_table(pd.concat(tables)[COLLAPSES], paths.COLLAPSES)


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
