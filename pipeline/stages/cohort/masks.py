"""Audit the masks that cohort.csv names beside its images, and measure them: shape and values inside."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import cache
from pipeline.imaging.labels import OUTPUTS
from pipeline.imaging.masks.features import ALL, LENGTHS, PREFIX, is_feature, kind_of, measure, unit_of
from pipeline.imaging.masks.matching import findings_of, on_scan
from pipeline.imaging.masks.reading import read_mask
from pipeline.imaging.reading.scan import Finding, Policy, Scan, Unreadable
from pipeline.imaging.reading.volumes import read_scan
from pipeline.imaging.tables.cohort_table import MASK, columns_in, image_in
from pipeline.metrics.columns import InputColumn
from pipeline.schema import Cohort
from pipeline.stages.cohort.places import OUTSIDE, is_outside, roots_of

GIVEN, EMPTY = "given", "empty"
OTHER = "other labels"
COLUMN = "column_"  # prefix of the columns that are asked for
MIXED = "mm² or pixels"
CURE_OF_UNITS = "give all images in a format with the size of a pixel, such as DICOM, or all without"
UNEVEN = 0.5  # difference of the shares with a mask between two classes from which it is told


@dataclass(frozen=True)
class Measured:
    """What the audit of a mask found.

    Attributes
    ----------
    state : {"", "given", "empty"}
        "" if the row names no mask, or one that is refused.
    box : tuple of int
        Voxels of the box around the mask, along the axes of the header's shape.
    features : dict
        By the names in `FEATURES`, as texts.
    findings : tuple of Finding
    unit : str
        Of length; see `unit_of`.
    """

    state: str = ""
    box: tuple[int, ...] = ()
    features: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    unit: str = ""

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Measured":
        """Rebuild from the values of `as_json`."""
        findings = tuple(Finding(**one) for one in values["findings"])
        return cls(**(values | {"box": tuple(values["box"]), "findings": findings}))


def audit_masks(table: pd.DataFrame, source: Path, cohort: Cohort, code: str) -> list[Measured]:
    """Audit and measure the mask of each row of a cohort table; unchanged ones come from the cache.

    `code` is the hash of the code of the stage.
    """
    if MASK not in table:
        return [Measured() for _ in range(len(table))]
    policy, roots = Policy(**cohort.reading.model_dump()), roots_of(source, cohort)
    rows = [number for number, name in enumerate(table[MASK]) if name]
    files = [tuple(image_in(source, table[column].iloc[row]) for column in ("image", MASK)) for row in rows]
    settings = (policy, roots, cohort.mask_labels)
    keys = [cache.key_of(mask, cache.key_of(image, code), mask, *settings) for image, mask in files]
    work = partial(audit_mask, policy=policy, roots=roots, labels=cohort.mask_labels)
    results = cache.map_cases_once(work, files, keys, "masks")
    found = {row: Measured.from_json(values) for row, values in zip(rows, results, strict=True)}
    return [found.get(row, Measured()) for row in range(len(table))]


def audit_mask(
    files: tuple[Path, Path], policy: Policy, roots: Sequence[Path], labels: Sequence[int]
) -> tuple[dict[str, Any], cache.Arrays]:
    """Audit and measure a mask, and return plain values."""
    return measured(files, policy, roots, labels).as_json(), {}


def measured(files: tuple[Path, Path], policy: Policy, roots: Sequence[Path], labels: Sequence[int]) -> Measured:
    """Read a scan and its mask, check that they belong together, and measure the mask."""
    image, path = files
    if is_outside(path, roots):
        return Measured(findings=(_of_mask(OUTSIDE),))
    try:
        mask = read_mask(path, policy)
    except Unreadable as error:
        return Measured(findings=(_of_mask(error.finding),))
    try:
        scan = read_scan(image, policy)
    except Unreadable:
        return Measured()  # the audit of the image tells it
    try:
        inside = on_scan(mask, scan, labels)
    except Unreadable as error:
        return Measured(findings=(error.finding,))
    state = GIVEN if inside.any() else EMPTY
    findings = tuple(findings_of(inside, labels))
    features = measure(scan, inside)
    return Measured(state, box_of(inside, scan), features=features, findings=findings, unit=unit_of(scan))


def _of_mask(finding: Finding) -> Finding:
    """Say that a finding is about the mask, not the image."""
    own = finding.check.startswith("mask")
    return finding if own else Finding(f"mask {finding.check}", finding.detail, finding.action, finding.parameter)


def box_of(inside: NDArray[np.bool_], scan: Scan) -> tuple[int, ...]:
    """Count the voxels of the box around a mask, along the axes of the header's shape; () if the mask is empty."""
    if not inside.any():
        return ()
    size = np.ptp(np.argwhere(inside), axis=0) + 1
    axes = np.argsort(nib.io_orientation(scan.affine)[:, 0]) if kind_of(scan) == "volume" else range(2)
    return tuple(int(size[axis]) for axis in axes)


def mask_columns(of_masks: Sequence[Measured]) -> dict[str, list[str]]:
    """Make the columns of data/cohort/cases.csv about masks: state and box; none if no case has a mask."""
    if not any(one.state for one in of_masks):
        return {}
    return {MASK: [one.state for one in of_masks], "mask_box": ["x".join(map(str, one.box)) for one in of_masks]}


def feature_columns(of_masks: Sequence[Measured], asked: Sequence[str]) -> dict[str, list[str]]:
    """Make the columns of data/cohort/columns.csv about masks: every feature, and each that is asked for once more."""
    names = features_in(of_masks)
    values = {name: [one.features.get(name, "") for one in of_masks] for name in names}
    return values | {COLUMN + name: values[name] for name in expanded(asked, names) if name in values}


def features_in(of_masks: Sequence[Measured]) -> list[str]:
    """Name the features of the masks of a cohort; none if no case has a mask."""
    return next((list(one.features) for one in of_masks if one.features), [])


def expanded(asked: Sequence[str], names: Sequence[str]) -> list[str]:
    """Put the names of all features in the place of `mask_features`."""
    every = [name for one in asked for name in (names if one == ALL else [one])]
    return list(dict.fromkeys(every))


def feature_inputs(cohort: Cohort, of_masks: Sequence[Measured]) -> list[InputColumn]:
    """List the features in `cohort.inputs`."""
    asked = [name for name in cohort.input_types if is_feature(name)]
    names, unit = features_in(of_masks), next(iter(units_of(of_masks)), "")
    in_units = LENGTHS if LENGTHS[0] in names else ()  # those of volumes are always in mm
    return [InputColumn(name, "numeric", unit=unit if name in in_units else "") for name in expanded(asked, names)]


def units_of(of_masks: Sequence[Measured]) -> list[str]:
    """List the units of length in which the masks that mark something are measured."""
    return sorted({one.unit for one in of_masks if one.state == GIVEN})


def faults_of_inputs(cohort: Cohort, of_masks: Sequence[Measured], where: Path) -> list[str]:
    """Say which features `cohort.inputs` names that the masks of this cohort do not have, or not as it says."""
    names = features_in(of_masks)
    if double := [name for name in columns_in(where.parent) if name in names]:
        return [f"{where}: the column '{double[0]}' has the name of a feature that is measured in masks; rename it"]
    asked = [name for name in cohort.input_types if is_feature(name)]
    if asked and not names:
        return [
            f"{where}: cohort.inputs names '{asked[0]}', which is measured in masks, but no row names a mask that can "
            f"be used; write the paths of masks into a column '{MASK}'"
        ]
    in_units = [name for name in expanded(asked, names) if name in LENGTHS]
    if in_units and len(units_of(of_masks)) > 1:
        [row, *_] = [number + 1 for number, one in enumerate(of_masks) if one.state == GIVEN and one.unit == "pixels"]
        return [
            f"{where}: cohort.inputs names '{in_units[0]}', but some images state the size of their pixels and others, "
            f"such as row {row}, do not, so that it would be in mm of some and in pixels of others; {CURE_OF_UNITS}"
        ]
    others = [name for name in asked if name not in (ALL, *names)]
    typed = [name for name in asked if cohort.input_types[name] not in ("", "numeric")]
    faults = [f"{where}: cohort.inputs gives '{name}' categories, but it is a number" for name in typed]
    return faults + [f"{where}: cohort.inputs names '{name}'; the masks have {', '.join(names)}" for name in others]


def coverage_of(table: pd.DataFrame, of_masks: Sequence[Measured], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Count cases and masks by class, with the quartiles of their size; [] without masks.

    Labels that are no class count together, and so do all numbers of a regression.
    """
    size = next((name for name in features_in(of_masks) if name in (PREFIX + "volume", PREFIX + "area")), None)
    if size is None:
        return []
    [name] = list(classes) if len(classes) == 1 else [OTHER]
    other = name if name in OUTPUTS.values() else OTHER
    labels = [label if label in ("", *classes) else other for label in table["label"]]
    unit = _unit(size, units := units_of(of_masks))
    known = pd.DataFrame({"label": labels, "state": [one.state for one in of_masks]})
    known["size"] = pd.to_numeric(pd.Series([one.features.get(size, "") for one in of_masks]), errors="coerce")
    rows = []
    for label, group in known.groupby("label"):
        given = group.loc[group["state"] == GIVEN, "size"].dropna()
        quartiles = np.quantile(given, [0.25, 0.5, 0.75]).tolist() if len(given) and len(units) == 1 else []
        states = {state: int((group["state"] == state).sum()) for state in (GIVEN, EMPTY)}
        rows.append({"label": label, "cases": len(group), **states, "size": quartiles, "unit": unit})
    return rows


def _unit(size: str, units: Sequence[str]) -> str:
    if size.endswith("volume"):
        return "mm³"
    return MIXED if len(units) > 1 else "pixels" if units == ["pixels"] else "mm²"


def remarks_on_masks(coverage: Sequence[dict[str, Any]]) -> list[str]:
    """Warn if masks are measured in mm and in pixels, or if whether a case has a mask at all tells the label."""
    return _on_units(coverage) + _on_classes(coverage)


def _on_units(coverage: Sequence[dict[str, Any]]) -> list[str]:
    if not any(row["unit"] == MIXED for row in coverage):
        return []
    return [
        "some images with masks state the size of their pixels and others do not: area, perimeter, diameter and axes "
        "of masks are in mm of some and in pixels of others, and so is preprocess.mask_margin_mm; the baseline by "
        f"features of the mask cannot compare them; {CURE_OF_UNITS}"
    ]


def _on_classes(coverage: Sequence[dict[str, Any]]) -> list[str]:
    shares = {row["label"]: row[GIVEN] / row["cases"] for row in coverage if row["label"]}
    if len(shares) < 2 or max(shares.values()) - min(shares.values()) < UNEVEN:
        return []
    most, least = (pick(shares, key=lambda name: shares[name]) for pick in (max, min))
    return [
        f"{shares[most]:.0%} of the cases of '{most}' have a mask, but {shares[least]:.0%} of '{least}': whether there "
        "is a mask tells the label, so that a model that uses masks is evaluated too well; give masks to all classes"
    ]
