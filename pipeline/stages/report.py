"""report: one page of all the above."""

import json
from typing import Any

import pandas as pd
import yaml

from pipeline import paths
from pipeline.params import FINAL, Params
from pipeline.reporting.page import write_page
from pipeline.reporting.plots import Axes, Bar, Line, chart, nice_range

IMAGES_PER_SITE = 8
STATES = ("uncalibrated", "calibrated")
COLOURS = {"internal": 1, "external": 2, "test": 2}


def run(params: Params) -> None:
    """Write data/report/index.html."""
    facts, stamps = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.STAMPS)
    adaptation = paths.read_json(paths.adaptation(FINAL if FINAL in params.split.folds else params.split.folds[0]))
    scope = stamps["locked_set"]["scope"]
    files = [paths.pooled_metrics(f"{name}_{state}") for name in ("internal", scope) for state in STATES]
    pooled = {file.stem: paths.read_json(file) for file in files if file.exists()}
    status, *gates = (paths.bundle(params.release.name) / "STATUS").read_text().splitlines()
    page = write_page(
        {
            "title": params.report.title,
            "facts": facts,
            "stamps": stamps,
            "unit": stamps["unit_of_intervals"],
            "classes": facts["classes"],
            "binary": len(facts["classes"]) == 2,
            "geometry": paths.read_json(paths.GEOMETRY),
            "defaced": paths.read_json(paths.READING)["deface"],
            "shortcuts": paths.read_json(paths.SPLIT_SUMMARY),
            "provenance": adaptation["provenance"],
            "adaptation": adaptation,
            "calibrator": paths.read_json(paths.CALIBRATOR),
            "bins": params.calibrate.bins,
            "pooled": pooled,
            "internal": pooled["internal_calibrated"],
            "locked": pooled.get(f"{scope}_calibrated"),
            "locked_scope": scope,
            "folds": {fold: paths.read_json(paths.fold_metrics(fold)) for fold in params.split.folds if fold != FINAL},
            "status": status,
            "gates": [json.loads(gate) for gate in gates],
            "bundle": str(paths.bundle(params.release.name)),
            "openings": count_openings(),
            "parameters": yaml.safe_dump(parameters_of(params), sort_keys=False),
            **tables(facts["classes"]),
            **plots(params),
        }
    )
    paths.REPORT.parent.mkdir(parents=True, exist_ok=True)
    paths.REPORT.write_text(page)


def tables(classes: list[str]) -> dict[str, Any]:
    """Collect the rows of the cohort flow, the contact sheets, the refusals and the classes."""
    index = paths.read_table(paths.INDEX)[["case", "thumbnail"]]
    cases = paths.read_table(paths.split(FINAL)).merge(index, on="case")
    cases["side"] = cases["role"].replace({"train": "development", "inner": "development"})
    flow = [flow_row(site, side, group, classes) for (site, side), group in cases.groupby(["site", "side"])]
    sheets = [{"name": site, "images": sample(group)} for site, group in cases.groupby("site")]
    per_class = [
        {**row, "auc": interval_of(row, "auc"), "sensitivity": interval_of(row, "sensitivity")}
        for row in pd.read_csv(paths.PER_CLASS, dtype={"class": str}).to_dict("records")
    ]
    return {
        "flow": flow,
        "sheets": sheets,
        "findings": audit_findings(),
        "refused_later": len(paths.read_table(paths.UNPREPARED)),
        "prepared": len(index),
        "copies": pairs_of_copies(index.set_index("case")["thumbnail"]),
        "per_class": per_class,
    }


def audit_findings() -> list[dict[str, Any]]:
    """Sum up what was found in the files, refusals first: what, in how many cases, what was done, what changes it."""
    found = pd.concat([paths.read_table(paths.AUDIT), paths.read_table(paths.UNPREPARED)])
    found["rank"] = found["action"].map(["refused", "repaired", "warned"].index)
    groups = found.groupby(["rank", "check", "action", "parameter"], sort=True)
    return [
        {
            "check": check,
            "action": action,
            "parameter": parameter,
            "count": len(group),
            "cases": group[["case", "detail"]].to_dict("records"),
        }
        for (_, check, action, parameter), group in groups
    ]


def pairs_of_copies(thumbnails: "pd.Series[str]") -> list[dict[str, Any]]:
    """List the pairs of images that look the same, with their thumbnails."""
    pairs = paths.read_table(paths.COPIES).to_dict("records")
    return [
        {**pair, "images": [{"case": pair[end], "thumbnail": thumbnails[pair[end]]} for end in ("case", "other")]}
        for pair in pairs
    ]


def flow_row(site: str, side: str, group: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Count one site's cases on one side."""
    return {
        "site": site,
        "side": side,
        "patients": group["patient"].nunique(),
        "cases": len(group),
        "counts": [int((group["label"] == name).sum()) for name in classes],
        "unlabelled": int((group["label"] == "").sum()),
    }


def sample(group: pd.DataFrame) -> list[dict[str, str]]:
    """Take a few cases of a site, of each label in turn."""
    turn = group.groupby("label").cumcount()
    chosen = group.assign(turn=turn).sort_values(["turn", "label"]).head(IMAGES_PER_SITE)
    return [{"label": row.label, "thumbnail": row.thumbnail} for row in chosen.sort_values("label").itertuples()]


def interval_of(row: dict[str, Any], figure: str) -> dict[str, Any] | None:
    """Rebuild a figure with its interval from three columns; None where it is empty."""
    value, lower, upper = (row[name] for name in (figure, f"{figure}_lower", f"{figure}_upper"))
    if pd.isna(value):
        return None
    return {"value": value, "lower": None if pd.isna(lower) else lower, "upper": None if pd.isna(upper) else upper}


def count_openings() -> int:
    """Count the models whose forecasts of the locked set have been looked at."""
    return len(paths.OPENINGS.read_text().splitlines()) - 1 if paths.OPENINGS.exists() else 0


def parameters_of(params: Params) -> dict[str, Any]:
    """List the sections of params.yaml that this stage was handed."""
    return {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        for name, value in vars(params).items()
    }


def plots(params: Params) -> dict[str, Any]:
    """Draw training curves, ROC and reliability diagrams."""
    return {"curves": [training_curve(fold) for fold in params.split.folds], "roc": roc(), "diagrams": diagrams()}


def training_curve(fold: str) -> dict[str, Any]:
    """Draw the losses of one training; the vertical mark is the epoch that was kept."""
    table = pd.read_csv(paths.history(fold))
    losses = [*table["train_loss"], *table["inner_loss"]]
    kept = int(table.loc[table["best"], "epoch"].max())
    last = max(int(table["epoch"].max()), 1)
    steps = next(steps for steps in (5, 4, 6, 7, 3, 2, 1) if last % steps == 0)
    axes = Axes("epoch (0 is the probe)", "weighted log-loss", (0, last), nice_range(losses), x_steps=steps)
    lines = [
        Line("training", list(zip(table["epoch"], table["train_loss"], strict=True)), 1),
        Line("inner", list(zip(table["epoch"], table["inner_loss"], strict=True)), 2),
    ]
    svg = chart(f"Training curve of fold {fold}", axes, lines, [Bar(kept, *axes.y_range, 3)])
    return {"svg": svg, "caption": f"Fold {fold}: epoch {kept} kept of {int(table['epoch'].max())} run"}


def roc() -> Any:
    """Draw the ROC curves of the internal and the locked cases."""
    table = pd.read_csv(paths.ROC)
    lines = [
        Line(scope, list(zip(group["false_positive_rate"], group["true_positive_rate"], strict=True)), COLOURS[scope])
        for scope, group in table.groupby("scope", sort=False)
    ]
    return chart("ROC curves", Axes("1 - specificity", "sensitivity", diagonal=True), lines)


def diagrams() -> list[dict[str, Any]]:
    """Draw a reliability diagram for each set of cases, before and after calibration."""
    table = pd.read_csv(paths.RELIABILITY)
    table[["set", "state"]] = table["scope"].str.split("_", n=1, expand=True)
    drawn = []
    for name, group in table.groupby("set", sort=False):
        after, before = (group[group["state"] == state] for state in ("calibrated", "uncalibrated"))
        lines = [
            Line("before", list(zip(before["forecast"], before["observed"], strict=True)), 4, dashed=True),
            Line("calibrated", list(zip(after["forecast"], after["observed"], strict=True)), COLOURS[name], marks=True),
        ]
        bars = [Bar(row.forecast, row.lower, row.upper, COLOURS[name]) for row in after.itertuples()]
        svg = chart(f"Reliability, {name}", Axes("forecast", "observed share", diagonal=True), lines, bars)
        drawn.append({"svg": svg, "caption": f"{name}, n = {int(after['n'].sum())}; intervals are Wilson's, 95 %"})
    return drawn
