"""Looks at every file before any compute, and says what is wrong with it instead of failing later."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.imaging.labels import Task, classes_in, flaw_of, targets_of
from pipeline.imaging.reading.scan import STRICT, Finding, Header, Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan


@dataclass(frozen=True)
class Audited:
    """A file's header (None where it cannot be read) and all that was found in it."""

    header: Header | None
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> Finding | None:
        """The finding for which the file is refused, if any."""
        return next((finding for finding in self.findings if finding.action == "refused"), None)

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Audited":
        """Rebuild from plain values."""
        findings = tuple(Finding(**finding) for finding in values["findings"])
        if values["header"] is None:
            return cls(None, findings)
        plain = values["header"]
        validation = tuple(Finding(**finding) for finding in plain["findings"])
        shape, spacing = tuple(plain["shape"]), tuple(plain["spacing"])
        return cls(Header(**{**plain, "shape": shape, "spacing": spacing, "findings": validation}), findings)


def audit_file(path: Path, policy: Policy = STRICT) -> Audited:
    """Read a scan whole, as preprocessing will, and say what was refused, repaired or is merely odd."""
    header = None
    try:
        header = read_header(path, policy)
        scan = read_scan(path, policy)
    except Unreadable as error:
        return Audited(header, (error.finding,))
    return Audited(scan.header, scan.header.findings)


def audit_table(
    table: pd.DataFrame, classes: Sequence[str], n_folds: int, task: Task = "multiclass"
) -> list[list[Finding]]:
    """Check what the cohort table says of each case, and whether each class has enough patients.

    Parameters
    ----------
    table : pandas.DataFrame
        As `read_cohort_table` returns it.
    classes : sequence of str
    n_folds : int
        A class with fewer patients than that cannot be assigned to the folds; where the task is multilabel, neither can
        one with fewer patients in whom it is known to be absent.
    task : {"multiclass", "ordinal", "multilabel"}
        How the labels are read, see `pipeline.imaging.labels`.

    Returns
    -------
    list of list of Finding
        One list per row.
    """
    found: list[list[Finding]] = [[] for _ in range(len(table))]
    twice = Counter(table["case_id"])
    some_patients = (table["patient_id"] != table["case_id"]).any()
    of_labels = _findings_of_labels(table, classes, n_folds, task)
    for findings, of_label, row in zip(found, of_labels, table.itertuples(), strict=True):
        if not row.case_id:
            findings.append(Finding("case id missing", "the column case_id is empty"))
        elif twice[row.case_id] > 1:
            findings.append(Finding("case id twice", f"{twice[row.case_id]} rows have this case_id"))
        findings += of_label
        if some_patients and row.patient_id == row.case_id:
            findings.append(Finding("patient missing", "counted as a patient of its own", "warned"))
    return found


def _findings_of_labels(table: pd.DataFrame, classes: Sequence[str], n_folds: int, task: Task) -> list[list[Finding]]:
    found = [_refused_label(label, classes, task) for label in table["label"]]
    sound = ["" if refused else label for label, refused in zip(table["label"], found, strict=True)]
    targets = targets_of(sound, classes, task)
    for findings, split, target in zip(found, table["split"], targets, strict=True):
        if not findings and np.isnan(target).all() and split in ("development", "test", "calibration"):
            findings.append(Finding("label missing", f"counted as unlabelled, though it is in {split}", "warned"))
    rare = _rare_classes(table, targets, classes, n_folds, task=task)
    return [findings + warned for findings, warned in zip(found, rare, strict=True)]


def _refused_label(label: str, classes: Sequence[str], task: Task) -> list[Finding]:
    strangers = [name for name in classes_in([label], task) if name not in classes]
    if strangers:
        return [Finding("label", f"'{strangers[0]}' is not a class", "refused", "cohort.classes")]
    flaw = flaw_of(label, task)
    return [Finding("label", flaw)] if flaw else []


def _rare_classes(
    table: pd.DataFrame, targets: NDArray[np.float32], classes: Sequence[str], n_folds: int, task: Task
) -> list[list[Finding]]:
    """Warn of each case with a label, or, of several, without one, that too few patients share."""
    found: list[list[Finding]] = [[] for _ in range(len(table))]
    assigned = ~table["split"].isin(["test", "unlabelled"]).to_numpy()
    told = {1: "has {} patients"} | ({0: "is known to be absent in {} patients"} if task == "multilabel" else {})
    for value, words in told.items():
        for name, target in zip(classes, targets.T, strict=True):
            patients = table.loc[assigned & (target == value), "patient_id"].nunique()
            if 0 < patients < n_folds:
                detail = f"'{name}' {words.format(patients)} for {n_folds} folds"
                for row in np.flatnonzero(target == value):
                    found[row].append(Finding("rare class", detail, "warned", "split.n_folds"))
    return found
