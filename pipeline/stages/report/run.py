"""report: write one self-contained page about the whole run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from pipeline import paths, runtime
from pipeline.imaging.labels import Task, targets_of
from pipeline.paths import Role
from pipeline.schema import FINAL, Params
from pipeline.spreadsheets import restored
from pipeline.stages.release.origin import origin_of
from pipeline.stages.release.thresholds import thresholds_to_use
from pipeline.stages.report.adaptation import section
from pipeline.stages.report.assessment import assessed, units_of, without_sites
from pipeline.stages.report.blocks import PATIENTS, Row
from pipeline.stages.report.calibrator import calibrator_in_words
from pipeline.stages.report.classes import by_class, confusions
from pipeline.stages.report.cohort import audit_findings, masks_in_words, pairs_of_duplicates, prevalences, sample
from pipeline.stages.report.diagrams import roc, training_curve, unlabelled_curve
from pipeline.stages.report.embedding import embedding_section
from pipeline.stages.report.evidence import TABLES as EVIDENCE
from pipeline.stages.report.evidence import evidence_section
from pipeline.stages.report.finetuning import recipes
from pipeline.stages.report.first_screen import about, doubts_about
from pipeline.stages.report.histograms import site_histograms
from pipeline.stages.report.inputs import inputs_in_words
from pipeline.stages.report.mistakes import mistakes_section
from pipeline.stages.report.outlying_folds import outlying_folds
from pipeline.stages.report.page import write_page
from pipeline.stages.report.provenance import made
from pipeline.stages.report.released import released, told_of
from pipeline.stages.report.run_summary import run_summary
from pipeline.stages.report.tasks import labels_left_out, repetitions, words_of

STATES = ("uncalibrated", "calibrated")
ASSESSED = (
    *("roc_band", "roc_of_folds", "pr_band", "thresholds"),
    *("calibration", "calibration_curve", "distribution", "decision_curve", "operating_points", "risk_coverage"),
    *("selective", "abstention", "conformal", "subgroups", "baselines", "increment", "prevalence", "recalibration"),
)
TEXT = ("scope", "candidate", "validator", "site", "unlabelled", "fold", "class", "repetition", "of", "value", "group")
CASES = (
    *("scope", "site", "label", "prediction", "spoke_for", "model", "slices"),
    *("attention", "thumbnail", "overlay", "state"),
)
NAMES = ("scope", "site", "fold", "of", "name")  # of the tables of evidence, where a value is a metric


def run(params: Params) -> None:
    """Write data/report/index.html, and print the summary with which `dvc repro` ends."""
    facts, stamps = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.STAMPS)
    scope = stamps["test_set"]["scope"]
    task, rule, unit = facts["task"], stamps["per_patient"], stamps["unit_of_intervals"]
    pooled = pooled_metrics(scope, rule)
    headline = "" if rule == "none" else PATIENTS
    used = thresholds([f"{name}{headline}" for name in ("internal", scope)])
    page = write_page(
        {
            "title": params.report.title,
            "made": made(params.cohort.path, params.release.name, params.release.version),
            **{"facts": facts, "stamps": stamps, "unit": unit, "classes": facts["classes"]},
            "masks": masks_in_words(facts.get("masks", [])),
            "words_of_task": words_of(task, facts["classes"], rule),
            "geometry": paths.read_json(paths.GEOMETRY),
            "defaced": paths.read_json(paths.READING)["deface"],
            "shortcuts": paths.read_json(paths.SPLIT_SUMMARY),
            "calibrator": calibrator_in_words(paths.read_json(paths.CALIBRATOR), unit),
            "assessed": assessment(pooled, unit, task, used),
            "inputs": inputs(),
            "bins": params.calibrate.bins,
            "pooled": pooled,
            "patients_first": rule != "none",
            "images": pooled["internal_calibrated"],
            "internal": pooled[f"internal{headline}_calibrated"],
            "labels_left_out": labels_left_out(pooled["internal_calibrated"]),
            "repetitions": repetitions(rows_of(paths.REPEATS)),
            "test": pooled.get(f"{scope}{headline}_calibrated"),
            "test_scope": scope,
            **released(params),
            "thresholds": used,
            "parameters": yaml.safe_dump(parameters_of(params), sort_keys=False),
            **tables(facts["classes"], task),
            **classes(facts["classes"], task, pooled, unit),
            **first_screen(params, facts, unit),
            **adaptation(params),
            "recipes": finetuning(params),
            "evidence": evidence(),
            **images(),
            **plots(params),
        }
    )
    paths.REPORT.parent.mkdir(parents=True, exist_ok=True)
    paths.REPORT.write_text(page)
    if not runtime.stages_of_run():
        print("\n".join(run_summary(paths.bundle(params.release.name), page_is_new=True)))


def pooled_metrics(scope: str, rule: str) -> dict[str, Any]:
    """Read the pooled metrics of the folds and of the test set that is open, patients before images."""
    levels = [""] if rule == "none" else [PATIENTS, ""]
    names = [f"{name}{level}_{state}" for level in levels for name in ("internal", scope) for state in STATES]
    files = [paths.pooled_metrics(name) for name in names]
    return {file.stem: paths.read_json(file) for file in files if file.exists()}


def inputs() -> dict[str, Any] | None:
    """Describe the columns that the model takes; None if it takes the image alone."""
    file = paths.assessed("inputs")
    return inputs_in_words(rows_of(file)) if file.exists() else None


def thresholds(scopes: list[str]) -> list[dict[str, Any]]:
    """Read the threshold of each operating point that is to be used."""
    return thresholds_to_use(rows_of(paths.assessed("operating_points")), scopes, paths.read_json(paths.THRESHOLDS))


def assessment(pooled: dict[str, Any], unit: str, task: Task, used: Sequence[Row]) -> dict[str, Any]:
    """Collect in how many ways the predictions were evaluated."""
    found: Mapping[str, Sequence[Row]] = {name: rows_of(paths.assessed(name)) for name in ASSESSED}
    if not (paths.read_table(paths.CASES)["site"] != "").any():
        found = without_sites(found)
    return assessed(found, rows_of(paths.RELIABILITY), units_of(pooled, unit), task == "multilabel", used=used)


def tables(classes: list[str], task: Task) -> dict[str, Any]:
    """Collect the rows of the cohort flow, the contact sheets and the refusals."""
    index = paths.read_table(paths.INDEX)[["case", "thumbnail"]]
    cases = paths.read_table(paths.split(FINAL)).merge(index, on="case")
    cases["side"] = cases["role"].replace({"train": "development", "validation": "development"})
    flow = [flow_row(site, side, group, classes, task=task) for (site, side), group in cases.groupby(["site", "side"])]
    sheets = [{"name": site, "images": sample(group)} for site, group in cases.groupby("site")]
    return {
        "flow": flow,
        "prevalences": prevalences(flow, classes),
        "sheets": sheets,
        "findings": audit_findings(pd.concat(map(paths.read_table, (paths.AUDIT, paths.UNPREPARED)))),
        "refused_later": int((paths.read_table(paths.UNPREPARED)["action"] == "refused").sum()),
        "prepared": len(index),
        "duplicates": pairs_of_duplicates(
            paths.read_table(paths.DUPLICATES).to_dict("records"), index.set_index("case")["thumbnail"]
        ),
    }


def flow_row(site: str, side: str, group: pd.DataFrame, classes: list[str], task: Task) -> dict[str, Any]:
    """Count one site's cases on one side, and those of each class or with each label."""
    targets = targets_of(group["label"].tolist(), classes, task)
    return {
        "site": site,
        "side": side,
        "patients": group["patient"].nunique(),
        "cases": len(group),
        "counts": np.nansum(targets, axis=0).astype(int).tolist(),
        "unlabelled": int((group["label"] == "").sum()),
    }


def parameters_of(params: Params) -> dict[str, Any]:
    """List the sections of params.yaml that this stage was handed."""
    return {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        for name, value in vars(params).items()
    }


def plots(params: Params) -> dict[str, Any]:
    """Draw training and ROC curves; a fold of which no epoch was run has no curve."""
    curves = []
    for fold in params.split.folds:
        members = list(pd.read_csv(paths.history(fold)).groupby("member", sort=False))
        for name, table in members:
            if len(table) > 1:
                curves.append(training_curve(f"{fold}, {name}" if len(members) > 1 else fold, table))
    return {
        "curves": curves,
        "roc": roc(restored(pd.read_csv(paths.ROC))),
    }


def classes(names: list[str], task: Task, pooled: dict[str, Any], unit: str) -> dict[str, Any]:
    """Collect the metrics of each class and, where a case has one class, the confusion matrix."""
    units, several = units_of(pooled, unit), task == "multilabel"
    evaluated = [] if several else paths.read_table(paths.PREDICTIONS).to_dict("records")
    return {
        "per_class": by_class(rows_of(paths.PER_CLASS), units),
        "confusions": confusions(evaluated, names, units),
    }


def first_screen(params: Params, facts: dict[str, Any], unit: str) -> dict[str, Any]:
    """Say what was learned from what, and which folds cannot be evaluated or stand out."""
    cases = paths.read_table(paths.split(FINAL))
    folds = {fold: paths.read_json(paths.fold_metrics(fold)) for fold in params.split.numbered}
    found = outlying_folds({fold: metrics["auc"] for fold, metrics in folds.items()}, params.calibrate.confidence)
    told = told_of(params)
    model = {"provenance": origin_of(told), "method": paths.read_json(paths.adaptation(told))["method"]}
    return {
        "about": about(cases["patient"].nunique(), len(cases), cases["site"], facts["classes"], unit=unit, **model),
        "several_sites": cases["site"].nunique() > 1,
        "doubts": doubts_about(folds, found, facts["task"] != "multilabel" and len(facts["classes"]) == 2),
        "outlying_somewhere": bool(found),
        "folds": folds,
    }


def adaptation(params: Params) -> dict[str, Any]:
    """Collect what was done to the encoder of each fold, what it cost, and how the choice of a method turned out."""
    folds = params.split.folds
    told = told_of(params)
    records = {fold: paths.read_json(paths.adaptation(fold)) for fold in folds}
    costs = {fold: paths.cost("adapt", fold) for fold in folds}
    metered = {fold: paths.read_json(file) if file.exists() else None for fold, file in costs.items()}
    files = {
        "search": paths.SEARCH,
        "validators": paths.VALIDATORS,
        "left_out": paths.LEFT_OUT,
        "collapses": paths.COLLAPSES,
    }
    return {
        **section(records, told, metered, {name: rows_of(file) for name, file in files.items()}),
        "model": "the released model" if told == FINAL else f"fold {told}",
        "seen": images_seen(told, records[told]),
        "unlabelled_curves": [
            unlabelled_curve(fold, record["curve"], record["kept_epoch"])
            for fold, record in records.items()
            if record.get("curve")
        ],
    }


def finetuning(params: Params) -> dict[str, Any]:
    """Collect which recipe each fold got, and what else was tried."""
    folds = params.split.folds
    files = {fold: paths.recipe(fold) for fold in folds}
    records = {fold: paths.read_json(file) if file.exists() else None for fold, file in files.items()}
    curves = {fold: pd.read_csv(paths.history(fold)).to_dict("records") for fold in folds}
    return recipes(records, curves, FINAL, params.finetune.average) | {"members": rows_of(paths.MEMBERS)}


def evidence() -> dict[str, Any] | None:
    """Collect whether transfer and adaptation paid; None where that was not asked.

    Seconds are no hashed out of the stage, so their table is beside those of other costs.
    """
    record, seconds = paths.EVIDENCE / "record.json", paths.COST / "evidence_time.csv"
    if not record.exists():
        return None
    tables = {name: rows_of(paths.evidence(name), NAMES) for name in EVIDENCE}
    tables["time_to_quality"] += rows_of(seconds, NAMES) if seconds.exists() else []
    return evidence_section(tables, paths.read_json(record))


def images() -> dict[str, Any]:
    """Collect what explains by images: histograms, places in the features, mistakes; what is absent is not shown."""
    counted, explained = paths.HISTOGRAMS, paths.MISTAKES
    tables = [paths.evidence(name) for name in ("embedding", "domain_distance")]
    places, distances = (rows_of(file, CASES) if file.exists() else [] for file in tables)
    return {
        "histograms": site_histograms(rows_of(counted, CASES) if counted.exists() else []),
        "embedding": embedding_section(places, distances),
        "mistakes": mistakes_section(rows_of(explained, CASES)) if explained.exists() else None,
    }


def images_seen(fold: str, record: dict[str, Any]) -> dict[str, Any]:
    """Count the images that adaptation saw, by what their cases do in the fold."""
    role = paths.read_table(paths.split(fold))["role"]
    unlabelled = int((role == Role.UNLABELLED).sum()) if record["unlabelled_sites"] else 0
    evaluated = int(role.isin([Role.HELD_OUT, Role.TEST]).sum()) if record["evaluated_seen"] else 0
    return {
        "all": record["images_seen"],
        "training": record["images_seen"] - unlabelled - evaluated,
        "unlabelled": unlabelled,
        "evaluated": evaluated,
        "sites": [site for site in record["unlabelled_sites"] if site],
        "target": record["target"],
    }


def rows_of(file: Path, text: Sequence[str] = TEXT) -> list[dict[str, Any]]:
    """Read a table of metrics; an empty field is None, and a class or site called "NA" is a name like any other."""
    table = restored(pd.read_csv(file, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""]))
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows
