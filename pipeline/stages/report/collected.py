"""Collect from the outputs of earlier stages what every page shows, whatever the task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.imaging.labels import OUTPUTS, Task, targets_of
from pipeline.paths import Role
from pipeline.schema import FINAL, Params
from pipeline.spreadsheets import restored
from pipeline.stages.report.adaptation import section
from pipeline.stages.report.blocks import PATIENTS
from pipeline.stages.report.cohort import audit_findings, pairs_of_duplicates, prevalences, sample
from pipeline.stages.report.diagrams import roc, training_curve, unlabelled_curve
from pipeline.stages.report.embedding import embedding_section
from pipeline.stages.report.finetuning import recipes
from pipeline.stages.report.histograms import site_histograms
from pipeline.stages.report.mistakes import mistakes_section
from pipeline.stages.report.released import told_of

STATES = ("uncalibrated", "calibrated")
TEXT = ("scope", "candidate", "validator", "site", "unlabelled", "fold", "class", "repetition", "of", "value", "group")
CASES = (
    *("scope", "site", "label", "prediction", "spoke_for", "model", "slices"),
    *("attention", "thumbnail", "overlay", "state"),
)
NAMES = ("scope", "site", "fold", "of", "name")  # of the tables of evidence, where a value is a metric


def pooled_metrics(scope: str, rule: str) -> dict[str, Any]:
    """Read the pooled metrics of the folds and of the test set that is open, patients before images."""
    levels = [""] if rule == "none" else [PATIENTS, ""]
    names = [f"{name}{level}_{state}" for level in levels for name in ("internal", scope) for state in STATES]
    files = [paths.pooled_metrics(name) for name in names]
    return {file.stem: paths.read_json(file) for file in files if file.exists()}


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
    present = ~np.isnan(targets) if task in OUTPUTS else targets
    return {
        "site": site,
        "side": side,
        "patients": group["patient"].nunique(),
        "cases": len(group),
        "counts": np.nansum(present, axis=0).astype(int).tolist(),
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
    curves, task = [], paths.read_json(paths.COHORT_FACTS)["task"]
    for fold in params.split.folds:
        members = list(pd.read_csv(paths.history(fold)).groupby("member", sort=False))
        for name, table in members:
            if len(table) > 1:
                curves.append(training_curve(f"{fold}, {name}" if len(members) > 1 else fold, table, task))
    return {
        "curves": curves,
        "roc": roc(restored(pd.read_csv(paths.ROC))),
    }


def adaptation(params: Params, left_out: bool = True) -> dict[str, Any]:
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
    without: dict[str, Any] = {} if left_out else {"left_out": []}  # of a number they stand with the folds
    return {
        **section(records, told, metered, {name: rows_of(file) for name, file in files.items()} | without),
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
