"""report: write one self-contained page about the whole run."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline import paths, runtime
from pipeline.imaging.labels import REGRESSION, SURVIVAL, Task
from pipeline.schema import FINAL, Params
from pipeline.stages.release.origin import origin_of
from pipeline.stages.release.thresholds import thresholds_to_use
from pipeline.stages.report.assessment import assessed, units_of, without_sites
from pipeline.stages.report.blocks import PATIENTS, Row
from pipeline.stages.report.calibrator import calibrator_in_words
from pipeline.stages.report.classes import by_class, confusions
from pipeline.stages.report.cohort import masks_in_words
from pipeline.stages.report.collected import (
    NAMES,
    adaptation,
    finetuning,
    images,
    parameters_of,
    plots,
    pooled_metrics,
    rows_of,
    tables,
)
from pipeline.stages.report.evidence import TABLES as EVIDENCE
from pipeline.stages.report.evidence import evidence_section
from pipeline.stages.report.first_screen import about, doubts_about
from pipeline.stages.report.inputs import inputs_of_model
from pipeline.stages.report.number_page import numbers_page, times_page
from pipeline.stages.report.outlying_folds import outlying_folds
from pipeline.stages.report.page import write_page
from pipeline.stages.report.provenance import made
from pipeline.stages.report.released import released, told_of
from pipeline.stages.report.run_summary import run_summary
from pipeline.stages.report.tasks import labels_left_out, repetitions, words_of

ASSESSED = (
    *("roc_band", "roc_of_folds", "pr_band", "thresholds"),
    *("calibration", "calibration_curve", "distribution", "decision_curve", "operating_points", "risk_coverage"),
    *("selective", "abstention", "conformal", "subgroups", "baselines", "increment", "prevalence", "recalibration"),
)

PAGES = {REGRESSION: numbers_page, SURVIVAL: times_page}  # of tasks without classes


def run(params: Params) -> None:
    """Write data/report/index.html, and print the summary with which `dvc repro` ends."""
    facts, stamps = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.STAMPS)
    if page_of := PAGES.get(facts["task"]):
        write(page_of(params, facts, stamps), params)
        return
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
            "inputs": inputs_of_model(),
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
    write(page, params)


def write(page: str, params: Params) -> None:
    """Write the page, and print the summary."""
    paths.REPORT.parent.mkdir(parents=True, exist_ok=True)
    paths.REPORT.write_text(page)
    if not runtime.stages_of_run():
        print("\n".join(run_summary(paths.bundle(params.release.name), page_is_new=True)))


def thresholds(scopes: list[str]) -> list[dict[str, Any]]:
    """Read the threshold of each operating point that is to be used."""
    return thresholds_to_use(rows_of(paths.assessed("operating_points")), scopes, paths.read_json(paths.THRESHOLDS))


def assessment(pooled: dict[str, Any], unit: str, task: Task, used: Sequence[Row]) -> dict[str, Any]:
    """Collect in how many ways the predictions were evaluated."""
    found: Mapping[str, Sequence[Row]] = {name: rows_of(paths.assessed(name)) for name in ASSESSED}
    if not (paths.read_table(paths.CASES)["site"] != "").any():
        found = without_sites(found)
    return assessed(found, rows_of(paths.RELIABILITY), units_of(pooled, unit), task == "multilabel", used=used)


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
