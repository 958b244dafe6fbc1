"""calibrate: judge the folds, fit the calibrator, and, where it is opened, judge the final model on the locked set."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.assessing.calibrators import Temperature, cross_fitted, fit_temperature
from pipeline.assessing.metrics import judged_confidence, macro_auc, roc_curve
from pipeline.assessing.summary import BadProbabilities, per_class, reliability, site_baseline, summarise
from pipeline.params import FINAL, Params, seed_for
from pipeline.paths import Role
from pipeline.refusal import Refusal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Cases with what was forecast for them, before and after calibration."""

    cases: pd.DataFrame
    labels: NDArray[np.int64]
    uncalibrated: Floats
    calibrated: Floats


def run(params: Params) -> None:
    """Write calibrator, predictions and figures."""
    classes = paths.read_json(paths.COHORT_FACTS)["classes"]
    folds = [fold for fold in params.split.folds if fold != FINAL]
    if len(folds) < 2:
        raise Refusal(
            "split.folds: name at least two, so that a calibrator can be judged on cases it was not fitted on"
        )
    held_out = judge_folds(folds, classes)
    calibrator = fit_temperature(logits_of(held_out.cases), held_out.labels)
    temperatures = dict(zip(held_out.cases["fold"], held_out.cases["temperature"], strict=True))
    locked = judge_locked(calibrator, classes) if FINAL in params.split.folds else None
    show = locked is not None and len(locked.cases) > 0 and params.calibrate.test == "open"
    scopes = {"internal": held_out} | ({locked_name(): locked} if locked and show else {})
    write_figures(scopes, classes, params)
    write_predictions(scopes)
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
    logits = logits_of(cases)
    return Judged(cases, label_numbers(cases, classes), Temperature(1.0).apply(logits), calibrator.apply(logits))


def scored(fold: str) -> pd.DataFrame:
    """Read a fold's logits, each row stamped with the fold and the hash of the weights that gave it."""
    digest = hashlib.sha256(paths.model(fold).read_bytes()).hexdigest()
    return paths.read_table(paths.predictions(fold)).assign(fold=fold, model_sha256=digest)


def logits_of(cases: pd.DataFrame) -> Floats:
    """Take the logits out of a table: (n, K)."""
    return np.asarray(cases.filter(like="logit_"), dtype=np.float64)


def label_numbers(cases: pd.DataFrame, classes: list[str]) -> NDArray[np.int64]:
    """Turn labels into numbers, in the order of the classes."""
    return np.array([classes.index(label) for label in cases["label"]], dtype=np.int64)


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
        scores, events = judged_confidence(judged.calibrated, judged.labels)
        false_positive, true_positive = roc_curve(scores, events)
        curves.append(
            pd.DataFrame({"scope": scope, "false_positive_rate": false_positive, "true_positive_rate": true_positive})
        )
    for fold in sorted(set(scopes["internal"].cases["fold"])):
        figures = figures_of_fold(scopes["internal"], fold, params)
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
            judged.cases["patient"].to_numpy(dtype=str),
            settings.bins,
            settings.n_bootstrap,
            settings.confidence,
            seed_for(params.seed, "bootstrap", name),
        )
    except BadProbabilities as error:
        raise Refusal(f"{name}: {error}; look at the training curves in {paths.FOLDS}") from error


def figures_of_fold(internal: Judged, fold: str, params: Params) -> dict[str, Any]:
    """Compute the calibrated figures of the cases that one fold held out."""
    mask = (internal.cases["fold"] == fold).to_numpy()
    part = Judged(internal.cases[mask], internal.labels[mask], internal.uncalibrated[mask], internal.calibrated[mask])
    return figures_of(part, part.calibrated, params, f"fold {fold}")


def auc_of_folds(judged: Judged, probabilities: Floats) -> dict[str, Any]:
    """Set two AUCs beside the pooled one: the mean over folds, and what the site alone gives on the same cases."""
    of_fold = []
    for fold in sorted(set(judged.cases["fold"])):
        mask = (judged.cases["fold"] == fold).to_numpy()
        of_fold.append(macro_auc(probabilities[mask], judged.labels[mask], np.ones((1, int(mask.sum()))))[0])
    site = macro_auc(
        np.stack(judged.cases["site_forecast"].to_list()), judged.labels, np.ones((1, len(judged.labels)))
    )[0]
    return {"auc_mean_of_folds": as_number(np.nanmean(of_fold)), "auc_of_site_alone": as_number(site)}


def as_number(value: float) -> float | None:
    """Round to six digits; None where there is no number."""
    return round(float(value), 6) if np.isfinite(value) else None


def classes_of(judged: Judged, classes: list[str], scope: str, params: Params) -> pd.DataFrame:
    """Tabulate each class, one against the rest."""
    patients = judged.cases["patient"].to_numpy(dtype=str)
    seed = seed_for(params.seed, "bootstrap", "classes", scope)
    settings = params.calibrate
    draws = (settings.n_bootstrap, settings.confidence, seed)
    table = per_class(judged.calibrated, judged.labels, patients, classes, *draws)
    return table.assign(scope=scope)


def rows_of(figures: dict[str, Any], scope: str) -> list[dict[str, Any]]:
    """Flatten figures into rows of a table."""
    counts = {"n": figures["n"], "patients": figures["patients"], "events": figures["events"]}
    return [
        {"scope": scope, "figure": name, **value, **counts}
        for name, value in figures.items()
        if isinstance(value, dict)
    ]


def write_predictions(scopes: dict[str, Judged]) -> None:
    """Write every judged case with its probabilities before and after calibration."""
    tables = []
    for scope, judged in scopes.items():
        table = judged.cases.drop(columns=["site_forecast"], errors="ignore").assign(scope=scope)
        for number in range(judged.calibrated.shape[1]):
            table[f"uncalibrated_{number}"] = judged.uncalibrated[:, number]
            table[f"probability_{number}"] = judged.calibrated[:, number]
        tables.append(table)
    paths.write_table(pd.concat(tables), paths.PREDICTIONS)


def count_opening(locked: Judged) -> None:
    """Note that these forecasts of the locked set have been looked at, once for each different model."""
    digest = hashlib.sha256(locked.calibrated.tobytes()).hexdigest()
    known = paths.OPENINGS.read_text() if paths.OPENINGS.exists() else "model_sha256,forecasts_sha256,cases\n"
    if digest not in known:
        paths.OPENINGS.write_text(f"{known}{locked.cases['model_sha256'].iloc[0]},{digest},{len(locked.cases)}\n")


def stamps(params: Params, shown: bool) -> dict[str, Any]:
    """Collect what must stand beside every figure."""
    facts, split = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.SPLIT_SUMMARY)
    adaptation = paths.read_json(paths.adaptation(params.split.folds[0]))
    locked_seen = sorted(set(split["locked_sites"]) & set(adaptation["unlabelled_sites"]))
    return {
        "simulated": facts["simulated"],
        "unit_of_intervals": "patient" if facts["patients_known"] else "image",
        "locked_set": {"scope": locked_name(), "shown": shown, "acknowledged_leaks": split["acknowledged_leaks"]},
        "sites_seen_unlabelled": locked_seen,
        "judged_images_seen": adaptation["judged_seen"],
    }
