"""Check the table of a cohort without reading an image, so that `plan` says the same before any stage runs."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import UserError
from pipeline.imaging.labels import NO_FINDING, OUTPUTS, REGRESSION, SURVIVAL, Task, classes_in, task_of
from pipeline.imaging.masks.features import is_feature
from pipeline.imaging.reading.scan import Finding
from pipeline.imaging.tables.cohort_table import (
    MASK,
    TABLE,
    TIMES,
    columns_in,
    counted,
    has_patients,
    is_about_a_person,
    read_cohort_table,
)
from pipeline.imaging.tables.text_table import BadTable
from pipeline.params import Settings, cohort_settings
from pipeline.schema import Cohort
from pipeline.stages.cohort.numbers import problems_of_numbers, with_numbers
from pipeline.stages.cohort.proposal import proposed_test_set
from pipeline.stages.cohort.times import problems_of_times, with_times

log = logging.getLogger(__name__)
COLUMNS_OF_RESULTS = (
    *("scan", "case", "patient", "site", "set", "decision", "abstains", "reason", "ood_score", "nearest_site"),
    *("site_share", "saliency", "dicom", "model_status", "date", "label", "image", "scans", "answered", "true"),
)
MOST_CLASSES = 3  # with more classes than this, most labels must occur twice
NO_PATIENTS = (
    "every image counts as a patient, because no patient is named: images of one patient may be in training and test, "
    "and metrics and intervals are too optimistic; "
)


def read_table(source: Path, cohort: Cohort, evaluated_by: Sequence[str]) -> pd.DataFrame:
    """Read cohort.csv with covariates and the columns in `evaluated_by`; warn of missing ones and of no patients."""
    if not source.is_dir():
        raise UserError(f"cohort.path: the folder {cohort.path} is not there")
    try:
        known = columns_in(source)
        measured = is_feature if MASK in known else (lambda _: False)
        asked = [name for name in dict.fromkeys(evaluated_by) if name in known or not measured(name)]
        absent = [name for name in asked if name not in known]
        if known and absent:
            log.warning("%s: no column %s; calibrate goes on without it", cohort.path, ", ".join(absent))
        table = read_cohort_table(source, cohort.covariates, [name for name in asked if name in known])
    except BadTable as error:
        raise UserError(str(error)) from error
    if not has_patients(source):
        log.warning(NO_PATIENTS + "fill the column patient_id of %s", source / TABLE)
    return table


def settings_of(folder: Path, splits: list[str]) -> Settings:
    """Read cohort.yaml; if it has no `split.test`, the column split determines the proposed test set."""
    settings = cohort_settings(folder)
    test = {"test": proposed_test_set(splits)[0]}
    return settings | {"split": test | settings.get("split", {})}


def task_and_classes(cohort: Cohort, labels: list[str]) -> tuple[Task, list[str]]:
    """Return the task, and the declared classes or the found ones; of two, the positive class is last."""
    task = task_of(labels) if cohort.task == "auto" else cohort.task
    if task in OUTPUTS:
        return task, [OUTPUTS[task]]
    classes = list(cohort.classes) or classes_in(labels, task)
    if task != "multilabel" and len(classes) == 2 and cohort.positive == classes[0]:
        classes.reverse()
    return task, classes


def problems_of_labels(cohort: Cohort, table: pd.DataFrame, source: Path) -> list[str]:
    """List the reasons to refuse the column `label`, its numbers or its classes, or times and events."""
    if cohort.task == REGRESSION:
        return problems_of_numbers(table, source / TABLE)
    if cohort.task == SURVIVAL:
        return problems_of_times(table, source / TABLE)
    if set(TIMES) <= set(table) and not (table["label"] != "").any():
        return [
            f"{source / TABLE} has the columns time and event, but no label; set cohort.task to survival and "
            "cohort.unit to the unit of time"
        ]
    return problems_of_classes(cohort, table["label"].tolist())


def with_labels(table: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Write the labels of a task without classes in one way, and drop the columns of times, which are labels then."""
    if cohort.task == SURVIVAL:
        return with_times(table)
    return with_numbers(table, cohort).drop(columns=list(TIMES), errors="ignore")


def problems_of_classes(cohort: Cohort, labels: list[str]) -> list[str]:
    """List the reasons to refuse the classes of a cohort; in a multilabel one, they are independent findings."""
    task, classes = task_and_classes(cohort, labels)
    if not cohort.classes and (flaw := flaw_of_labels(labels, classes)):
        return [flaw.format(cohort=cohort.path)]
    problems = (_of_findings if task == "multilabel" else _of_classes)(cohort, classes)
    found = Counter(name for label in labels for name in classes_in([label], task))
    problems += _of_names(classes)
    if classes and found and not set(found) & set(classes):
        problems.append(
            f"cohort.classes names {', '.join(classes)}, but the labels of {cohort.path} are {counted(found)}; correct "
            "cohort.classes"
        )
    return problems


def remarks_on_classes(table: pd.DataFrame, task: Task, classes: Sequence[str]) -> list[str]:
    """Name the classes that no case has, and those that only cases of the test set have."""
    if task in OUTPUTS:
        return []
    found: dict[str, set[str]] = {name: set() for name in classes}
    for label, split in zip(table["label"], table["split"], strict=True):
        for name in found.keys() & set(classes_in([label], task)):
            found[name].add(split)
    cure = "no model can learn it: add cases, or leave it out of cohort.classes"
    remarks = [f"no case has the class '{name}', so that {cure}" for name, splits in found.items() if not splits]
    tested = [name for name, splits in found.items() if splits == {"test"}]
    return remarks + [f"only test cases have the class '{name}', so that {cure}" for name in tested]


def _of_names(classes: list[str]) -> Iterator[str]:
    """Yield the names of classes that cannot stand in results, or are hardly told apart."""
    columns = [name for name in classes if name in COLUMNS_OF_RESULTS or name.startswith("withheld_")]
    if columns:
        yield (
            f"the class '{columns[0]}' has the name of a column in the tables of `predict` and `monitor`; call it "
            f"otherwise, e.g. '{columns[0]}s', in the column label and in cohort.classes"
        )
    alike: dict[str, set[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), set()).add(name)
    for names in alike.values():
        if len(names) > 1:
            written = " and ".join(f"'{name}'" for name in sorted(names))
            yield f"the classes {written} differ only in case, blanks or signs; write them alike if they are one class"


def flaw_of_labels(labels: list[str], classes: list[str]) -> str:
    """Explain, without a value, why the found labels are rather texts about single persons; return "" if not."""
    texts = [name for name in classes if is_about_a_person(name)]
    if not texts and not (len(classes) > MOST_CLASSES and len(classes) * 2 > len(labels)):
        return ""
    many = len(texts) or len(classes)
    return (
        f"{{cohort}}: the column label holds {many} different texts that may tell of single patients (dates, long or "
        "rare texts); correct them, or name the classes in cohort.classes, and the other cases are left out; for one "
        "number per case set cohort.task to regression"
    )


def _of_findings(cohort: Cohort, classes: list[str]) -> list[str]:
    problems = []
    if cohort.positive is not None:
        problems.append(
            f"cohort.positive is '{cohort.positive}', but the labels of {cohort.path} hold ';' or '?', so a case has "
            "several, each with a probability of its own; set cohort.positive to null, or cohort.task to multiclass"
        )
    if NO_FINDING in classes:
        problems.append(f"cohort.classes names '{NO_FINDING}', which says that no label is there; take it out")
    if not classes:
        problems.append(f"{cohort.path}: the column label names nothing; at least one label is needed")
    return problems


def _of_classes(cohort: Cohort, classes: list[str]) -> list[str]:
    problems = []
    if len(classes) < 2:
        names = f" ({', '.join(classes)})" if classes else ""
        problems.append(
            f"{cohort.path}: the column label holds {len(classes)} class(es){names}; at least two are needed"
        )
    if cohort.positive is not None and cohort.positive not in classes:
        problems.append(f"cohort.positive is '{cohort.positive}', but the classes are {', '.join(classes)}")
    return problems


def left_out_by(findings: Sequence[Sequence[Finding]]) -> list[str]:
    """Say of each case whether its findings mean that it is "refused", "excluded" or, "" , used."""
    actions = [{one.action for one in found} for found in findings]
    return ["refused" if "refused" in found else "excluded" if "excluded" in found else "" for found in actions]
