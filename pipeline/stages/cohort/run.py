"""Read the table, audit every file, pseudonymise, and write the cohort table of the later stages."""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import cache, paths, runtime
from pipeline.errors import UserError, refuse
from pipeline.imaging.labels import OUTPUTS, SURVIVAL
from pipeline.imaging.masks.features import is_feature
from pipeline.imaging.reading.scan import Policy
from pipeline.imaging.tables.cohort_table import (
    MASK,
    TABLE,
    findings_table,
    has_patients,
    image_in,
    pseudonymised,
    write_cohort_table,
)
from pipeline.imaging.tables.pseudonyms import pseudonym, remember_names, salt_of
from pipeline.metrics.columns import InputColumn
from pipeline.params import CARD_FILE, cohort_name
from pipeline.schema import OF_COHORT, Cohort, Params
from pipeline.stages.cohort.audit import Audited, all_findings, audit_file, audit_table, finding_lines, without_texts
from pipeline.stages.cohort.checks import (
    left_out_by,
    problems_of_labels,
    read_table,
    remarks_on_classes,
    settings_of,
    task_and_classes,
    with_labels,
)
from pipeline.stages.cohort.default_texts import description_of, title_of
from pipeline.stages.cohort.inputs import input_columns
from pipeline.stages.cohort.keys import claim_keys, key_errors, members_of
from pipeline.stages.cohort.masks import (
    Measured,
    audit_masks,
    coverage_of,
    faults_of_inputs,
    feature_columns,
    feature_inputs,
    mask_columns,
    remarks_on_masks,
)
from pipeline.stages.cohort.places import OUTSIDE, is_outside, roots_of, warn_of_unwatched
from pipeline.stages.cohort.simulation.recipe import is_recipe, read_recipe
from pipeline.stages.cohort.simulation.scan import plan_scans, write_scan
from pipeline.stages.cohort.statements import problems_of_card, read_statements

log = logging.getLogger(__name__)


def run(params: Params) -> None:
    """Audit and pseudonymise the cohort, and write it to data/cohort."""
    source = Path(params.cohort.path)
    simulated = is_recipe(source)
    if simulated:
        simulate_cohort(source)
        source = paths.SIMULATED
    else:
        empty_simulated()
    inputs = input_columns(source, params.cohort)
    named = [*params.calibrate.subgroups, *params.calibrate.baseline, *params.cohort.input_types]
    table = read_table(source, params.cohort, named)
    refuse([*problems_of_labels(params.cohort, table, source), *problems_of_card(Path(params.cohort.path))])
    table = with_labels(table, params.cohort)
    labels = table["label"].tolist()
    write_statements(Path(params.cohort.path))
    task, classes = task_and_classes(params.cohort, labels)
    log_remarks(params.cohort, remarks_on_classes(table, task, classes))
    audited = audit(table, source, params.cohort)
    of_masks = audit_masks(table, source, params.cohort, cache.code_of("cohort"))
    inputs += inputs_of_masks(params.cohort, of_masks, source)
    of_files = all_findings(audited, audit_table(table, classes, params.split.n_folds, task))
    findings = [[*found, *of_mask.findings] for found, of_mask in zip(of_files, of_masks, strict=True)]
    print_lines(finding_lines(table["image"].tolist(), findings))
    kept = without_texts(findings, table)
    known = {"left_out": left_out_by(findings), "findings": kept} | header_columns(audited)
    known |= mask_columns(of_masks) | feature_columns(of_masks, named)
    log_remarks(params.cohort, remarks_on_masks(coverage := coverage_of(table, of_masks, classes)))
    table = pseudonymise(table.drop(columns=MASK, errors="ignore").assign(**known), params.cohort)
    paths.write_table(findings_table(table["case"].tolist(), table["findings"].tolist()), paths.AUDIT)
    write_cases(table, params.cohort, inputs)
    facts = {
        "task": task,
        "classes": classes,
        "positive": params.cohort.positive or (classes[-1] if len(classes) == 2 and task != "multilabel" else None),
        **({"unit": params.cohort.unit} if task in OUTPUTS else {}),
        "simulated": simulated,
        "public": params.cohort.public,
        "patients_known": has_patients(source),
        "cases_in": len(table),
        "cases_refused": int((table["left_out"] == "refused").sum()),
        "cases_excluded": int((table["left_out"] == "excluded").sum()),
        **({"masks": coverage} if coverage else {}),
    }
    paths.write_json(facts, paths.COHORT_FACTS)
    write_settings(params, table["split"].tolist(), facts, used_in(table))


def write_cases(table: pd.DataFrame, cohort: Cohort, inputs: Sequence[InputColumn]) -> None:
    """Write the tables of the cases that are used, and the types of the columns that the model takes."""
    cases = used_in(table)
    if cases.empty:
        raise UserError(f"none of the {len(table)} images of {cohort.path} can be used; see the findings above")
    further = [column for column in cases if column.startswith("column_") or is_feature(column)]
    paths.write_table(cases.drop(columns=further), paths.CASES)
    paths.write_json([column.as_json() for column in inputs], paths.INPUTS)
    paths.write_table(cases[["case", *further]], paths.COLUMNS)  # separate, so that naming one causes no retraining


def used_in(table: pd.DataFrame) -> pd.DataFrame:
    """Select the cases that are neither refused nor excluded."""
    return table[table["left_out"] == ""].drop(columns=["left_out", "findings", "image"])


def log_remarks(cohort: Cohort, remarks: Sequence[str]) -> None:
    """Warn of what is odd about a cohort."""
    for remark in remarks:
        log.warning("%s: %s", cohort.path, remark)


def inputs_of_masks(cohort: Cohort, of_masks: Sequence[Measured], source: Path) -> list[InputColumn]:
    """List the features of masks that the model takes; raise UserError if the masks do not have them."""
    refuse(faults_of_inputs(cohort, of_masks, source / TABLE))
    return feature_inputs(cohort, of_masks)


def simulate_cohort(folder: Path) -> None:
    """Simulate the scans of the recipe in `folder`, and write them with their cohort table."""
    jobs = plan_scans(read_recipe(folder))
    runtime.map_cases(partial(write_scan, folder=paths.SIMULATED), jobs, "simulate")
    write_cohort_table(pd.DataFrame([job.row for job in jobs]), paths.SIMULATED)


def empty_simulated() -> None:
    """Say in the folder of simulated scans that there are none; DVC warns of an empty folder."""
    shutil.rmtree(paths.SIMULATED, ignore_errors=True)
    paths.SIMULATED.mkdir(parents=True)
    (paths.SIMULATED / "README.txt").write_text("This cohort is not simulated, so there are no scans here.\n")


def write_settings(params: Params, splits: list[str], facts: dict[str, Any], cases: pd.DataFrame) -> None:
    """Write the settings of cohort.yaml, one file per section, so that a stage reruns only if its sections change.

    What cohort.yaml leaves out gets a default of this cohort: the test set that the column split proposes, the
    description of the model and the title of the report.
    """
    settings, name = settings_of(Path(params.cohort.path), splits), cohort_name(params.cohort.path)
    defaults = {
        "release": {"description": description_of(facts, cases, name, params.preprocess.modality)},
        "report": {"title": title_of(titles_of(facts), name)},
    }
    for section in OF_COHORT:
        paths.write_json(defaults.get(section, {}) | settings.get(section, {}), paths.settings(section))


def titles_of(facts: dict[str, Any]) -> list[str]:
    """Name what the report is about: the classes, the number, or the time."""
    if "unit" not in facts:
        return list(facts["classes"])
    return ["time until the event"] if facts["task"] == SURVIVAL else [f"value in {facts['unit']}"]


def write_statements(folder: Path) -> None:
    """Write the texts of card.yaml for `release`, so that a new text retrains nothing."""
    statements = read_statements(folder / CARD_FILE)
    if not any(statements.values()):
        log.warning("%s has no text; the model card will mark its fields as not filled in", folder / CARD_FILE)
    paths.write_json(statements, paths.STATEMENTS)


def audit(table: pd.DataFrame, source: Path, cohort: Cohort) -> list[Audited]:
    """Audit every file, and reuse the cached result of files unchanged since the last run."""
    policy = Policy(**cohort.reading.model_dump())
    files = [image_in(source, image) for image in table["image"]]
    code = cache.code_of("cohort")
    roots = roots_of(source, cohort)
    warn_of_unwatched(files, source)
    keys = [cache.key_of(file, code, image, policy, roots) for file, image in zip(files, table["image"], strict=True)]
    results = cache.map_cases_once(partial(audit_case, policy=policy, roots=roots), files, keys, "audit")
    return [Audited.from_json(values) for values in results]


def audit_case(file: Path, policy: Policy, roots: Sequence[Path]) -> tuple[dict[str, Any], cache.Arrays]:
    """Audit one file, unless it lies outside of the roots, and return plain values."""
    return (Audited(None, (OUTSIDE,)) if is_outside(file, roots) else audit_file(file, policy)).as_json(), {}


def print_lines(lines: list[str]) -> None:
    """Print lines with original names, which appear on the terminal only."""
    for line in lines:
        print(line)


def header_columns(audited: list[Audited]) -> dict[str, list[str]]:
    """Convert shape, channels, spacing, bit depth and modality to text columns, with sizes as `93x114x38`."""
    headers = [found.header for found in audited]
    return {
        "shape": ["x".join(map(str, header.shape)) if header else "" for header in headers],
        "spacing": ["x".join(f"{size:.4g}" for size in header.spacing) if header else "" for header in headers],
        "channels": [str(header.channels) if header else "" for header in headers],
        "bits": [str(header.bits) if header else "" for header in headers],
        "modality": [header.modality if header else "" for header in headers],
    }


def pseudonymise(table: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Replace case and patient ids by pseudonyms, and store the original names in the private key folder."""
    source = Path(cohort.path)
    folder = claim_keys(source, [] if is_recipe(source) else members_of(table, source))
    names = [("case", name) for name in table["case_id"]] + [("patient", name) for name in table["patient_id"]]
    with key_errors():
        salt = salt_of(folder, cohort.public)
        remember_names(folder, names, salt)
    renamed = pseudonymised(table, partial(pseudonym, salt))
    used, left_out = renamed[renamed["left_out"] == ""], Counter(renamed["left_out"])
    if used["case"].duplicated().any():
        raise UserError(f"{cohort.path}: two case ids share a pseudonym; rename one of them")
    excluded = f", {left_out['excluded']} excluded by cohort.classes" if left_out["excluded"] else ""
    patients = renamed["patient"].nunique()
    log.info("%d cases of %d patients, %d refused%s", len(renamed), patients, left_out["refused"], excluded)
    return renamed
