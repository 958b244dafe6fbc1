"""Collect the page of a regression from the outputs of earlier stages."""

import yaml

from pipeline import paths
from pipeline.imaging.labels import VALUE
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
from pipeline.stages.report.page import NUMBER_PAGE, write_page
from pipeline.stages.report.provenance import made
from pipeline.stages.report.regression import intervals_in_words, number_values
from pipeline.stages.report.released import released, told_of


def numbers_page(params: Params, facts: Row, stamps: Row) -> str:
    """Write the page of a regression, which has charts of its own in the place of those about classes."""
    scope, unit = stamps["test_set"]["scope"], stamps["unit_of_intervals"]
    found = pooled_metrics(scope, stamps["per_patient"])
    pooled = {name.removesuffix("_calibrated"): one for name, one in found.items() if name.endswith("_calibrated")}
    folds = {fold: paths.read_json(paths.fold_metrics(fold)) for fold in params.split.numbered}
    files = {name: paths.assessed(name) for name in ("by_value", "baselines", "subgroups")}
    files |= {"predictions": paths.PREDICTIONS, "reliability": paths.RELIABILITY, "members": paths.MEMBERS}
    files |= {"repeats": paths.REPEATS, "left_out": paths.LEFT_OUT}
    shown = number_values(facts, stamps, pooled, folds, tables={name: rows_of(file) for name, file in files.items()})
    cases, told, task = paths.read_table(paths.split(FINAL)), told_of(params), [f"a number in {facts['unit']}"]
    model = {"provenance": origin_of(told), "method": paths.read_json(paths.adaptation(told))["method"]}
    intervals, record = paths.read_json(paths.CALIBRATOR)["intervals"], paths.EVIDENCE / "record.json"
    compared = (
        {name: rows_of(paths.evidence(name), NAMES) for name in ("final", "differences")} if record.exists() else {}
    )
    return write_page(
        {
            "title": params.report.title,
            "made": made(params.cohort.path, params.release.name, params.release.version),
            **{"facts": facts, "stamps": stamps, "unit": unit, "words_of_task": {"binary": False, "multilabel": False}},
            "masks": masks_in_words(facts.get("masks", [])),
            "geometry": paths.read_json(paths.GEOMETRY),
            "defaced": paths.read_json(paths.READING)["deface"],
            "shortcuts": paths.read_json(paths.SPLIT_SUMMARY),
            **released(params),
            "parameters": yaml.safe_dump(parameters_of(params), sort_keys=False),
            **tables([VALUE], facts["task"]),
            "classes": ["with a number"],
            **adaptation(params, left_out=False),
            "about": about(cases["patient"].nunique(), len(cases), cases["site"], task, unit=unit, **model),
            "recipes": finetuning(params) | {"members": []},
            **images(),
            **plots(params),
            **shown,
            "intervals_in_words": intervals_in_words(intervals, shown["pooled"], shown["of_unit"]),
            "evidence": {**paths.read_json(record), **compared} if compared else None,
        },
        NUMBER_PAGE,
    )
