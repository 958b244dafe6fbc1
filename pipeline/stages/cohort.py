"""cohort: read the table, audit every file, pseudonymise, and write the table that the others use."""

import logging
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline import engine, paths
from pipeline.imaging.audit import Audited, audit_file
from pipeline.imaging.cohort_table import BadTable, has_patients, pseudonymised, read_cohort_table, write_cohort_table
from pipeline.imaging.deidentify import pseudonym, remember_names, salt_of
from pipeline.imaging.simulate import is_recipe, plan_scans, read_recipe, write_scan
from pipeline.params import Cohort, Params
from pipeline.refusal import Refusal

log = logging.getLogger(__name__)


def run(params: Params) -> None:
    """Write the checked cohort to data/cohort."""
    source = Path(params.cohort.path)
    paths.SIMULATED.mkdir(parents=True, exist_ok=True)
    simulated = is_recipe(source)
    if simulated:
        simulate_cohort(source)
        source = paths.SIMULATED
    table = read_table(source, params.cohort.path)
    audited = engine.map_cases(audit_file, [source / image for image in table["image"]], "audit")
    classes = class_order(params.cohort, table["label"].tolist())
    table["finding"] = [
        finding_of(row.label, found, classes) for row, found in zip(table.itertuples(), audited, strict=True)
    ]
    tell_refused(table)
    table = table.assign(**header_columns(audited))
    sound = pseudonymise(table, params.cohort, source)
    paths.write_table(sound[["case", "patient", "site", "finding"]], paths.AUDIT)
    cases = sound[sound["finding"] == ""].drop(columns=["finding", "image"])
    if cases.empty:
        raise Refusal(f"none of the {len(table)} images of {params.cohort.path} can be used; see the findings above")
    paths.write_table(cases, paths.CASES)
    facts = {
        "classes": classes,
        "positive": params.cohort.positive or (classes[-1] if len(classes) == 2 else None),
        "simulated": simulated,
        "public": params.cohort.public,
        "patients_known": has_patients(source),
        "cases_in": len(table),
        "cases_refused": int((table["finding"] != "").sum()),
    }
    paths.write_json(facts, paths.COHORT_FACTS)


def simulate_cohort(folder: Path) -> None:
    """Write the scans of the recipe in `folder`, as hospitals would send them."""
    jobs = plan_scans(read_recipe(folder))
    engine.map_cases(partial(write_scan, folder=paths.SIMULATED), jobs, "simulate")
    write_cohort_table(pd.DataFrame([job.row for job in jobs]), paths.SIMULATED)


def read_table(source: Path, named: str) -> pd.DataFrame:
    """Read cohort.csv, or say what is wrong with it."""
    if not source.is_dir():
        raise Refusal(f"cohort.path: the folder {named} is not there")
    try:
        return read_cohort_table(source)
    except BadTable as error:
        raise Refusal(str(error)) from error


def class_order(cohort: Cohort, labels: list[str]) -> list[str]:
    """Take the classes as declared, else as found in alphabetical order; the positive class comes last of two."""
    classes = list(cohort.classes) or sorted(set(labels) - {""})
    if len(classes) < 2:
        raise Refusal(f"{cohort.path}: the column label holds {len(classes)} class(es); at least two are needed")
    if cohort.positive is not None and cohort.positive not in classes:
        raise Refusal(f"cohort.positive is '{cohort.positive}', but the classes are {', '.join(classes)}")
    if len(classes) == 2 and cohort.positive == classes[0]:
        classes.reverse()
    return classes


def finding_of(label: str, audited: Audited, classes: list[str]) -> str:
    """Give the reason to refuse a case, or nothing."""
    if audited.finding:
        return f"{audited.finding.check}: {audited.finding.detail}"
    if label and label not in classes:
        return f"label: '{label}' is not in cohort.classes"
    return ""


def tell_refused(table: pd.DataFrame) -> None:
    """Name the refused files on the terminal, the only place where an original name is shown."""
    for row in table[table["finding"] != ""].itertuples():
        print(f"refused {row.image}: {row.finding}")


def header_columns(audited: list[Audited]) -> dict[str, list[str]]:
    """Spread shape, channels, spacing and bit depth over columns; sizes as `93x114x38`."""
    headers = [found.header for found in audited]
    return {
        "shape": ["x".join(map(str, header.shape)) if header else "" for header in headers],
        "spacing": ["x".join(f"{size:.4g}" for size in header.spacing) if header else "" for header in headers],
        "channels": [str(header.channels) if header else "" for header in headers],
        "bits": [str(header.bits) if header else "" for header in headers],
    }


def pseudonymise(table: pd.DataFrame, cohort: Cohort, source: Path) -> pd.DataFrame:
    """Rename cases and patients, and keep the way back in the private key folder."""
    folder = engine.keys_folder() / Path(cohort.path).name
    salt = salt_of(folder, cohort.public)
    names = [("case", name) for name in table["case_id"]] + [("patient", name) for name in table["patient_id"]]
    remember_names(folder, names, salt)
    renamed = pseudonymised(table, partial(pseudonym, salt))
    if renamed["case"].duplicated().any():
        raise Refusal(f"{source}: two case ids share a pseudonym; rename one of them")
    log.info(
        "%d cases of %d patients, %d refused",
        len(renamed),
        renamed["patient"].nunique(),
        (renamed["finding"] != "").sum(),
    )
    return renamed
