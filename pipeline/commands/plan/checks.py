"""Check headers and table of a cohort as the stages `cohort`, `preprocess` and `split` do, before any of them runs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import paths, runtime
from pipeline.imaging.labels import OUTPUTS, Task
from pipeline.imaging.preparation.fingerprint import REGION_HASH
from pipeline.imaging.reading.scan import Header, Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header
from pipeline.imaging.tables.cohort_table import MASK, checked_rows, image_in
from pipeline.params import cohort_digest, load, missing_for_dvc
from pipeline.schema import Cohort, Params
from pipeline.schema.reference import as_yaml
from pipeline.stages.cohort.audit import Audited, all_findings, audit_table, finding_lines
from pipeline.stages.cohort.checks import (
    left_out_by,
    problems_of_labels,
    read_table,
    settings_of,
    task_and_classes,
    with_labels,
)
from pipeline.stages.cohort.inputs import input_columns
from pipeline.stages.cohort.places import OUTSIDE, is_outside, roots_of
from pipeline.stages.cohort.run import pseudonymise
from pipeline.stages.cohort.simulation.recipe import RECIPE, is_recipe, read_recipe
from pipeline.stages.cohort.simulation.scan import plan_scans, scan_shape
from pipeline.stages.cohort.statements import problems_of_card
from pipeline.stages.preprocess.sizing import resolve_geometry
from pipeline.stages.release.placing import problems_of_place
from pipeline.stages.split.checks import groups_of, problems_of_split, settled, sides, targets_of_labels
from pipeline.stages.split.leakage import described, marked_exact


@dataclass(frozen=True)
class Checked:
    """Hold what is known of a cohort before a stage runs.

    Attributes
    ----------
    params : Params
        With the test set that the stage `cohort` would propose.
    headers : list of Header
        Of the cases that are neither refused nor excluded.
    findings : list of str
        Lines about single files and rows, with original names.
    problems : list of str
        Everything that would stop a stage.
    """

    params: Params
    headers: list[Header]
    findings: list[str]
    problems: list[str]


def check_cohort(params: Params) -> Checked:
    """Run every check that needs no pixel, and collect what it finds.

    Raises
    ------
    UserError
        If the table cannot be read, so that nothing else can be checked.
    """
    folder = Path(params.cohort.path)
    if is_recipe(folder):
        table, audited = simulated_cohort(folder)
    else:
        input_columns(folder, params.cohort)
        named = [*params.calibrate.subgroups, *params.calibrate.baseline, *params.cohort.input_types]
        table = read_table(folder, params.cohort, named)
        audited = audited_headers(table, params.cohort)
    params = load(of_cohort=settings_of(folder, table["split"].tolist()))
    of_classes = problems_of_labels(params.cohort, table, folder)
    table = table if of_classes else with_labels(table, params.cohort)
    labels = table["label"].tolist()
    problems = [*of_classes, *problems_of_card(folder), *problems_for_dvc(), *problems_of_masks(table, params)]
    problems += problems_of_place(paths.bundle(params.release.name), cohort_digest(folder))
    task, classes = task_and_classes(params.cohort, labels)
    of_table = audit_table(table, classes, params.split.n_folds, task)
    findings = all_findings(audited, of_table)
    columns = {"left_out": left_out_by(findings), "header": [one.header for one in audited]}
    known = pseudonymise(table.assign(**columns), params.cohort)
    used = known[known["left_out"] == ""].reset_index(drop=True)
    headers = used["header"].tolist()
    if used.empty:
        problems += [] if of_classes else [f"none of the {len(table)} images of {folder} can be used"]
    else:
        problems += problems_of_headers(headers, params)
        problems += (
            [] if of_classes and task in ("multilabel", *OUTPUTS) else problems_of_table(used, params, task, classes)
        )
    lines = [*finding_lines(table["image"].tolist(), findings), *remarks_on_boxes(params)]
    return Checked(params, headers, lines, problems)


def problems_of_masks(table: pd.DataFrame, params: Params) -> list[str]:
    """Say why `preprocess` would refuse the cohort for want of masks; whether a mask is empty is seen by `cohort`."""
    asked, missing = params.preprocess.mask, params.preprocess.mask_missing
    if asked == "none":
        return []
    without = np.flatnonzero(table[MASK] == "") + 1 if MASK in table else np.arange(len(table)) + 1
    if MASK in table and (missing == "whole" or not len(without)):
        return []
    some = ", ".join(map(str, without[:3])) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
    return [
        f"preprocess.mask is {asked}, but rows {some} of cohort.csv name no mask in a column '{MASK}'; add masks, set "
        "preprocess.mask to none, or, if some have one, preprocess.mask_missing to whole"
    ]


def remarks_on_boxes(params: Params) -> list[str]:
    """Say that the grid below is that of whole scans, if scans are cropped to masks, which no header shows."""
    if params.preprocess.mask not in ("crop", "both"):
        return []
    return ["noted: the grid below fits whole scans; `preprocess` chooses one that fits the boxes around their masks"]


def problems_for_dvc() -> list[str]:
    """Say what DVC does not find in params.yaml; the stages themselves take the defaults."""
    if not (missing := missing_for_dvc()):
        return []
    lines = [f"  {name}: {as_yaml(value)}" for name, value in missing.items()]
    said = "params.yaml: `dvc repro` needs these sections and keys, the stages have defaults; add them:"
    return ["\n".join([said, *lines])]


def simulated_cohort(folder: Path) -> tuple[pd.DataFrame, list[Audited]]:
    """Derive table and headers from a recipe without simulating a scan."""
    recipe = read_recipe(folder)
    jobs = plan_scans(recipe)
    headers = [Header(scan_shape(recipe.sites[job.site]), 1, recipe.sites[job.site].voxel_mm, 16) for job in jobs]
    return checked_rows(pd.DataFrame([job.row for job in jobs]), folder / RECIPE), [Audited(one) for one in headers]


def audited_headers(table: pd.DataFrame, cohort: Cohort) -> list[Audited]:
    """Read the header of every scan."""
    policy = Policy(**cohort.reading.model_dump())
    images = [image_in(Path(cohort.path), image) for image in table["image"]]
    roots = roots_of(Path(cohort.path), cohort)
    return runtime.map_cases(partial(audited_header, policy=policy, roots=roots), images, "headers")


def audited_header(image: Path, policy: Policy, roots: Sequence[Path]) -> Audited:
    """Read one header with its findings."""
    if is_outside(image, roots):
        return Audited(None, (OUTSIDE,))
    try:
        header = read_header(image, policy)
    except Unreadable as error:
        return Audited(None, (error.finding,))
    return Audited(header, header.findings)


def problems_of_headers(headers: Sequence[Header], params: Params) -> list[str]:
    """Say why `preprocess` would find no geometry for the scans, if so."""
    try:
        resolve_geometry(headers, params.budget, params.preprocess)
    except ValueError as error:
        return [f"cohort.path: {error}"]
    return []


def problems_of_table(cases: pd.DataFrame, params: Params, task: Task, classes: list[str]) -> list[str]:
    """List the reasons for which `split` would refuse these cases; an image counts as a duplicate by its path alone."""
    targets = targets_of_labels(cases, task, classes)
    cases = cases.assign(side=sides(cases, targets, params), voxel_hash=cases["image"].map(os.path.normpath))
    if MASK in cases and params.preprocess.mask != "none":
        cases[REGION_HASH] = cases["voxel_hash"] + " " + cases[MASK].map(os.path.normpath)
    cases, duplicates = settled(cases, described(marked_exact(cases), cases), targets, params.split)
    grouped = groups_of(cases, targets, duplicates, task)
    return problems_of_split(cases, grouped, duplicates, params.split, classes=classes)
