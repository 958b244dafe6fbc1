"""Collect the page of a task without classes from the outputs of earlier stages."""

from collections.abc import Sequence
from typing import Any

import yaml

from pipeline import paths
from pipeline.schema import FINAL, Params
from pipeline.stages.release.origin import origin_of
from pipeline.stages.report.blocks import Row
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
from pipeline.stages.report.first_screen import about
from pipeline.stages.report.increment import named, verdicts_on_images
from pipeline.stages.report.inputs import inputs_of_model
from pipeline.stages.report.page import NUMBER_PAGE, TIME_PAGE, write_page
from pipeline.stages.report.provenance import made
from pipeline.stages.report.regression import intervals_in_words, number_values
from pipeline.stages.report.released import released, told_of
from pipeline.stages.report.survival import time_values

Tables = dict[str, list[dict[str, Any]]]

OF_A_TIME = ("by_time", "risk_groups", "kaplan_meier", "follow_up")


def numbers_page(params: Params, facts: Row, stamps: Row) -> str:
    """Write the page of a regression, which has charts of its own in the place of those about classes."""
    pooled, folds, tables = measured(params, stamps, ("by_value",))
    shown = number_values(facts, stamps, pooled, folds, tables=tables)
    intervals = paths.read_json(paths.CALIBRATOR)["intervals"]
    shown |= {"intervals_in_words": intervals_in_words(intervals, shown["pooled"], shown["of_unit"])}
    common = values_of_page(params, facts, stamps, f"a number in {facts['unit']}")
    return write_page({**common, "classes": ["with a number"], **shown}, NUMBER_PAGE)


def times_page(params: Params, facts: Row, stamps: Row) -> str:
    """Write the page of a survival cohort."""
    pooled, folds, tables = measured(params, stamps, OF_A_TIME)
    shown = time_values(facts, stamps, pooled, folds, tables=tables)
    common = values_of_page(params, facts, stamps, f"risks until times in {facts['unit']}")
    return write_page({**common, "classes": ["with a time"], **shown}, TIME_PAGE)


def increments() -> dict[str, Any]:
    """Say what the images add to columns, with the rows of the table; without columns there are none."""
    file = paths.assessed("increment")
    rows = rows_of(file) if paths.assessed("inputs").exists() else []
    return {"sentences": verdicts_on_images(rows), "rows": [dict(row) | {"named": named(row)} for row in rows]}


def measured(params: Params, stamps: Row, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any], Tables]:
    """Read the recalibrated metrics of each evaluated set, those of each fold, and the rows of tables."""
    found = pooled_metrics(stamps["test_set"]["scope"], stamps["per_patient"])
    pooled = {name.removesuffix("_calibrated"): one for name, one in found.items() if name.endswith("_calibrated")}
    folds = {fold: paths.read_json(paths.fold_metrics(fold)) for fold in params.split.numbered}
    files = {name: paths.assessed(name) for name in (*names, "baselines", "subgroups")}
    files |= {"predictions": paths.PREDICTIONS, "reliability": paths.RELIABILITY, "members": paths.MEMBERS}
    files |= {"repeats": paths.REPEATS, "left_out": paths.LEFT_OUT}
    return pooled, folds, {name: rows_of(file) for name, file in files.items()}


def values_of_page(params: Params, facts: Row, stamps: Row, task: str) -> dict[str, Any]:
    """Collect what pages without classes share; `task` says what the model gives."""
    unit = stamps["unit_of_intervals"]
    cases, told = paths.read_table(paths.split(FINAL)), told_of(params)
    model = {"provenance": origin_of(told), "method": paths.read_json(paths.adaptation(told))["method"]}
    record = paths.EVIDENCE / "record.json"
    compared = (
        {name: rows_of(paths.evidence(name), NAMES) for name in ("final", "differences")} if record.exists() else {}
    )
    return {
        "title": params.report.title,
        "made": made(params.cohort.path, params.release.name, params.release.version),
        **{"facts": facts, "stamps": stamps, "unit": unit, "words_of_task": {"binary": False, "multilabel": False}},
        "masks": masks_in_words(facts.get("masks", [])),
        "geometry": paths.read_json(paths.GEOMETRY),
        "defaced": paths.read_json(paths.READING)["deface"],
        "shortcuts": paths.read_json(paths.SPLIT_SUMMARY),
        **released(params),
        "parameters": yaml.safe_dump(parameters_of(params), sort_keys=False),
        **tables(facts["classes"], facts["task"]),
        **adaptation(params, left_out=False),
        "about": about(cases["patient"].nunique(), len(cases), cases["site"], [task], unit=unit, **model),
        "recipes": finetuning(params) | {"members": []},
        **images(),
        **plots(params),
        **{"inputs": inputs_of_model(), "increments": increments()},
        "evidence": {**paths.read_json(record), **compared} if compared else None,
    }
