"""Audit every file and every table row before any compute, and report each fault instead of failing later."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.imaging.labels import OUTPUTS, Task, classes_in, flaw_of, targets_of
from pipeline.imaging.reading.scan import STRICT, Action, Finding, Header, Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan
from pipeline.imaging.tables.cohort_table import EXAMPLES, is_about_a_person

SHARED = 3  # patients who have a label that is quoted in a file


@dataclass(frozen=True)
class Audited:
    """Hold the header of a file (None if unreadable) and the findings of its audit."""

    header: Header | None
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> Finding | None:
        """Return the finding that refuses the file, or None."""
        return next((finding for finding in self.findings if finding.action == "refused"), None)

    def as_json(self) -> dict[str, Any]:
        """Convert the result to plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Audited":
        """Rebuild the result from the plain values of `as_json`."""
        findings = tuple(Finding(**finding) for finding in values["findings"])
        if values["header"] is None:
            return cls(None, findings)
        plain = values["header"]
        of_header = tuple(Finding(**finding) for finding in plain["findings"])
        shape, spacing = tuple(plain["shape"]), tuple(plain["spacing"])
        return cls(Header(**{**plain, "shape": shape, "spacing": spacing, "findings": of_header}), findings)


def audit_file(path: Path, policy: Policy = STRICT) -> Audited:
    """Read a whole scan, as preprocessing does, and return its header and its refusals, repairs and warnings."""
    try:
        scan = read_scan(path, policy)
    except Unreadable as error:
        return _refused(path, policy, error.finding)
    return Audited(scan.header, scan.header.findings)


def _refused(path: Path, policy: Policy, finding: Finding) -> Audited:
    """Return the header of a scan whose voxels are refused; if it is refused, too, its finding comes first."""
    try:
        return Audited(read_header(path, policy), (finding,))
    except Unreadable as error:
        return Audited(None, (error.finding,))


def audit_table(
    table: pd.DataFrame, classes: Sequence[str], n_folds: int, task: Task = "multiclass"
) -> list[list[Finding]]:
    """Check the entries of each case in the cohort table, and the number of patients of each class.

    Parameters
    ----------
    table : pandas.DataFrame
        Cohort table, as `read_cohort_table` returns it.
    classes : sequence of str
        Declared or found classes.
    n_folds : int
        Number of folds. A class with fewer patients cannot be assigned to all folds. In a multilabel task, the same
        holds for a finding with fewer patients without it.
    task : {"multiclass", "ordinal", "multilabel", "regression", "survival"}
        Interpretation of the labels, see `pipeline.imaging.labels`.

    Returns
    -------
    list of list of Finding
        Findings, one list per row of the table.
    """
    found: list[list[Finding]] = [[] for _ in range(len(table))]
    twice = Counter(table["case_id"])
    some_patients = (table["patient_id"] != table["case_id"]).any()
    of_labels = _findings_of_labels(table, classes, n_folds, task)
    for findings, of_label, row in zip(found, of_labels, table.itertuples(), strict=True):
        if not row.image:
            findings.append(Finding("no image", "the row names no image; write its path, or remove the row"))
        if not row.case_id:
            findings.append(Finding("case id missing", "the column case_id is empty"))
        elif twice[row.case_id] > 1:
            findings.append(Finding("case id twice", f"{twice[row.case_id]} rows have this case_id"))
        findings += of_label
        if some_patients and row.patient_id == row.case_id:
            findings.append(Finding("patient missing", "counted as a patient of its own", "warned"))
    return found


def all_findings(audited: Sequence[Audited], of_table: Sequence[Sequence[Finding]]) -> list[list[Finding]]:
    """Join the findings of each case: of its file (if its row names one), of its row, and of its kind among others."""
    of_kinds = _findings_of_kinds([one.header for one in audited])
    of_files = [
        () if any(found.check == "no image" for found in row) else one.findings
        for one, row in zip(audited, of_table, strict=True)
    ]
    return [[*file, *row, *kind] for file, row, kind in zip(of_files, of_table, of_kinds, strict=True)]


def _findings_of_kinds(headers: Sequence[Header | None]) -> list[list[Finding]]:
    """Warn of each scan that is an image among volumes, or a volume among images; the rarer kind is named."""
    volumes = [header.is_volume for header in headers if header]
    rare = 2 * sum(volumes) <= len(volumes)  # volumes are the rarer kind
    if not volumes or all(volumes) or not any(volumes):
        return [[] for _ in headers]
    one, other = ("a volume", "images") if rare else ("an image", "volumes")
    warning = Finding(
        "kind", f"it is {one}, but other scans of the cohort are {other}; make a cohort of each", "warned"
    )
    return [[warning] if header and header.is_volume == rare else [] for header in headers]


def _findings_of_labels(table: pd.DataFrame, classes: Sequence[str], n_folds: int, task: Task) -> list[list[Finding]]:
    if task in OUTPUTS:  # `checks.problems_of_labels` has refused every other label
        return [[] for _ in range(len(table))]
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
        return [Finding("label", f"'{strangers[0]}' is not a class", "excluded", "cohort.classes")]
    flaw = flaw_of(label, task)
    return [Finding("label", flaw)] if flaw else []


def without_texts(findings: Sequence[Sequence[Finding]], table: pd.DataFrame) -> list[list[Finding]]:
    """Take out of findings, for files, each unknown label that few patients share: it may tell of a person."""
    patients = table.groupby("label")["patient_id"].nunique()
    private = [patients[label] < SHARED or is_about_a_person(label) for label in table["label"]]
    unnamed = "the label is not a class"
    return [
        [replace(one, detail=unnamed) if hide and one.parameter == "cohort.classes" else one for one in found]
        for found, hide in zip(findings, private, strict=True)
    ]


def _rare_classes(
    table: pd.DataFrame, targets: NDArray[np.float32], classes: Sequence[str], n_folds: int, task: Task
) -> list[list[Finding]]:
    """Warn of each case with a class that fewer than `n_folds` patients have, or, if multilabel, lack."""
    found: list[list[Finding]] = [[] for _ in range(len(table))]
    assigned = ~table["split"].isin(["test", "unlabelled"]).to_numpy()
    details = {1: "has {} patients"} | ({0: "is known to be absent in {} patients"} if task == "multilabel" else {})
    for value, words in details.items():
        for name, target in zip(classes, targets.T, strict=True):
            patients = table.loc[assigned & (target == value), "patient_id"].nunique()
            if 0 < patients < n_folds:
                detail = f"'{name}' {words.format(patients)} for {n_folds} folds"
                for row in np.flatnonzero(target == value):
                    found[row].append(Finding("rare class", detail, "warned", "split.n_folds"))
    return found


def finding_lines(images: Sequence[str], findings: Sequence[Sequence[Finding]]) -> list[str]:
    """Describe findings, one line per kind with a count and up to three images; refusals come first.

    Parameters
    ----------
    images : sequence of str
        Original names, so the lines are for the terminal only.
    findings : sequence of sequence of Finding
        Findings of each image.
    """
    kinds: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for image, found in zip(images, findings, strict=True):
        for one in found:
            kinds.setdefault((one.action, one.check, one.parameter), []).append((image, one.detail))
    ranked = sorted(kinds, key=lambda kind: get_args(Action).index(kind[0]))
    return [_finding_line(*kind, kinds[kind]) for kind in ranked]


def _finding_line(action: str, check: str, parameter: str, found: list[tuple[str, str]]) -> str:
    details = Counter(detail for _, detail in found)
    ranked = [f"{detail} ({count})" if len(details) > 1 else detail for detail, count in details.most_common(EXAMPLES)]
    more = f" and {len(details) - EXAMPLES} more" if len(details) > EXAMPLES else ""
    decides = f" (params.yaml: {parameter} decides)" if parameter else ""
    example = "e.g. " if len(found) > EXAMPLES else ""
    images = ", ".join(image for image, _ in found[:EXAMPLES])
    return f"{action:8}  {len(found)}  {check}: {', '.join(ranked)}{more}{decides}: {example}{images}"
