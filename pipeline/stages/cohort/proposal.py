"""Propose the settings of a cohort, with reasons, for the cohort.yaml of `medadapt import`."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.imaging.labels import REGRESSION, SURVIVAL, classes_in, task_of
from pipeline.imaging.tables.cohort_table import OPTIONAL, REQUIRED, TIMES, flaw_of_groups
from pipeline.params import COHORT_FILE
from pipeline.schema.reference import as_yaml

HEADING = "# Proposed by `medadapt import`; check each value. params.yaml takes a value from here where it says `auto`."
ENDING = (
    "# By default, release.name, release.description and report.title name this folder and its classes; set them here."
)
# class names for the absence of a disease
NEGATIVE = re.compile(
    r"0|no|none|false|negative|neg|normal|healthy|well|control|controls|benign|absent|(no|non|not)[ _-]?\w+", re.I
)
FEWEST = 3  # different labels above which most must occur twice to be classes
ABOUT_PATIENTS = ("age", "sex", "gender")

Proposal = tuple[Any, str]  # a value, and the reason for it


def proposed_test_set(splits: list[str]) -> Proposal:
    """Propose the test set: the test cases of the column split, else a share of the patients.

    >>> proposed_test_set(["", "test"])[0], proposed_test_set(["", ""])[0]
    ('given', 'patients')
    """
    if "test" in splits:
        return "given", "The column split marks the test cases."
    return "patients", "The column split marks no test cases, so a share of the patients is reserved."


def proposed_positive(labels: list[str], classes: list[str]) -> Proposal:
    """Propose the positive class: if exactly one of two names means absence, the other class, else the rarer one.

    >>> proposed_positive(["ill", "well"], ["ill", "well"])
    ('ill', "The name 'well' means the absence of a finding.")
    """
    negative = [name for name in classes if NEGATIVE.fullmatch(name)]
    if len(negative) == 1:
        return next(name for name in classes if name not in negative), (
            f"The name '{negative[0]}' means the absence of a finding."
        )
    counts = Counter(labels)
    rarer = min(reversed(classes), key=lambda name: counts[name])
    return rarer, f"'{rarer}' is not the more frequent class."


def are_measured(labels: list[str], classes: list[str]) -> bool:
    """Tell whether labels are measured numbers: all are finite numbers, and most occur once, so they are no classes.

    >>> ages = ["1.5", "2.25", "3", "40"]
    >>> are_measured(ages, ages), are_measured(["0", "1"], ["0", "1"])
    (True, False)
    """
    if len(classes) <= FEWEST or 2 * len(classes) <= len(labels):
        return False
    try:
        return all(math.isfinite(float(name)) for name in classes)
    except ValueError:
        return False


def columns_about_patients(table: pd.DataFrame) -> list[str]:
    """List the columns with age and sex that divide patients into groups without identifying a patient."""
    patients = table["patient_id"].where(table["patient_id"] != "", table["case_id"])
    about = [name for name in further_columns(table) if name.lower().startswith(ABOUT_PATIENTS)]
    return [name for name in about if not flaw_of_groups(table[name], patients)]


def further_columns(table: pd.DataFrame) -> list[str]:
    """List the columns that are neither required nor optional columns of a cohort table."""
    return [name for name in table if name not in (*REQUIRED, *OPTIONAL, *TIMES)]


def proposed_settings(table: pd.DataFrame) -> str:
    """Compose the text of a cohort.yaml, with the reason for each value as a comment.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of cohort.csv as text, with columns `case_id, patient_id, label, site, split` and further ones.
    """
    lines = [HEADING]
    for section, proposals in sections_of(table):
        lines.append(f"{section}:")
        for key, (value, reason) in proposals.items():
            lines += [f"  # {reason}", f"  {key}: {as_yaml(value)}"]
    return "\n".join([*lines, ENDING]) + "\n"


def sections_of(table: pd.DataFrame) -> Iterator[tuple[str, dict[str, Proposal]]]:
    """Propose values for each section of cohort.yaml, and never for `cohort.public`."""
    labels = [label for label in table["label"] if label]
    task = task_of(labels)
    classes = classes_in(labels, task)
    if are_measured(labels, classes):
        number: Proposal = (REGRESSION, "Nearly every label is a number of its own. For classes: multiclass.")
        yield (
            "cohort",
            {"task": number, "unit": ("", "Fill in its unit, e.g. ml or years; '1' for none.")},
        )
        classes = []
    if not labels and set(TIMES) <= set(table):
        yield "cohort", {"task": (SURVIVAL, "There are columns time and event."), "unit": ("", "Fill it in: months.")}
        classes, labels = [], ["time"]
    cohort: dict[str, Proposal] = {"task": (task, "For grades: ordinal, with the classes from the lowest upwards.")}
    if len(classes) > 1:
        cohort["classes"] = (classes, "A case with a label that is not listed here is excluded.")
    if len(classes) == 2 and task == "multiclass":
        cohort["positive"] = proposed_positive(labels, classes)
    if classes or not labels:
        yield "cohort", cohort
    test, reason = proposed_test_set(table["split"].tolist())
    sites = Counter(sorted(site for site in table["site"] if site))
    if len(sites) > 1:
        smallest = min(sites, key=lambda site: sites[site])
        reason += " For an external test set: `test: sites` and, e.g., `test_sites: " + as_yaml([smallest]) + "`."
    yield "split", {"test": (test, reason)}
    about = columns_about_patients(table)
    further = ", ".join(further_columns(table)) or "none"
    columns = f"Age and sex, if there are such columns that do not identify patients. Further columns: {further}."
    yield (
        "calibrate",
        {
            "subgroups": (about, columns),
            "baseline": (about, "The images must predict the label better than these columns alone."),
        },
    )


def write_proposal(table: pd.DataFrame, folder: Path) -> None:
    """Write the proposed settings to cohort.yaml in `folder`, next to the table."""
    (folder / COHORT_FILE).write_text(proposed_settings(table))
