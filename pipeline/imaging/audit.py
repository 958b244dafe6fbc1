"""Looks at every file before any compute, and says what is wrong with it instead of failing later."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

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
        inner = tuple(Finding(**finding) for finding in plain["findings"])
        shape, spacing = tuple(plain["shape"]), tuple(plain["spacing"])
        return cls(Header(**{**plain, "shape": shape, "spacing": spacing, "findings": inner}), findings)


def audit_file(path: Path, policy: Policy = STRICT) -> Audited:
    """Read a scan whole, as preprocessing will, and say what was refused, repaired or is merely odd."""
    header = None
    try:
        header = read_header(path, policy)
        scan = read_scan(path, policy)
    except Unreadable as error:
        return Audited(header, (error.finding,))
    return Audited(scan.header, scan.header.findings)


def audit_table(table: pd.DataFrame, classes: Sequence[str], n_folds: int) -> list[list[Finding]]:
    """Check what the cohort table says of each case, and whether each class has enough patients.

    Parameters
    ----------
    table : pandas.DataFrame
        As `read_cohort_table` returns it.
    classes : sequence of str
    n_folds : int
        A class with fewer patients than that cannot be dealt to the folds.

    Returns
    -------
    list of list of Finding
        One list per row.
    """
    found: list[list[Finding]] = [[] for _ in range(len(table))]
    twice = Counter(table["case_id"])
    some_patients = (table["patient_id"] != table["case_id"]).any()
    rare = _rare_classes(table, classes, n_folds)
    for findings, row in zip(found, table.itertuples(), strict=True):
        if not row.case_id:
            findings.append(Finding("case id missing", "the column case_id is empty"))
        elif twice[row.case_id] > 1:
            findings.append(Finding("case id twice", f"{twice[row.case_id]} rows have this case_id"))
        if row.label and row.label not in classes:
            findings.append(Finding("label", f"'{row.label}' is not a class", "refused", "cohort.classes"))
        if not row.label and row.split in ("development", "test", "calibration"):
            findings.append(Finding("label missing", f"counted as unlabelled, though it is in {row.split}", "warned"))
        if some_patients and row.patient_id == row.case_id:
            findings.append(Finding("patient missing", "counted as a patient of its own", "warned"))
        if row.label in rare:
            detail = f"'{row.label}' has {rare[row.label]} patients for {n_folds} folds"
            findings.append(Finding("rare class", detail, "warned", "split.n_folds"))
    return found


def _rare_classes(table: pd.DataFrame, classes: Sequence[str], n_folds: int) -> dict[str, int]:
    labelled = table[~table["split"].isin(["test", "unlabelled"]) & table["label"].isin(classes)]
    patients = labelled.groupby("label")["patient_id"].nunique()
    return {str(label): int(count) for label, count in patients.items() if count < n_folds}
