"""Sort the slices of a DICOM series into one grid in space; find missing and repeated slices.

The geometry follows DICOM PS3.3, C.7.6.2.1.1 (Image Plane) and C.7.6.16.2 (functional groups); patient coordinates
are converted from DICOM's LPS+ to RAS+.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.reading.scan import Finding, Policy, Unreadable

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_PLACE_MM = 0.01
SAME_DIRECTION = 1e-3
EVEN = 0.05  # of the median distance between slices
TILT_DEGREES = 0.5
PLACE = {"ImagePositionPatient": "positions", "ImageOrientationPatient": "orientation", "PixelSpacing": "pixel spacing"}
SECTIONAL = ("CT", "MR", "PT", "NM")
TIMES = ("TemporalPositionIndex", "TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime", "InstanceNumber")


@dataclass(frozen=True)
class Slice:
    """Hold the geometry of one slice.

    Attributes
    ----------
    file : Path
    index : int
        Number of the frame in its file, from 0.
    position : (3,)
        Centre of the first pixel, LPS+ millimetres.
    orientation : (6,)
        Directions of increasing column and row index, unit vectors in LPS+.
    spacing : (2,)
        Millimetres between rows and between columns.
    thickness : float
        Millimetres; used only if there is a single slice.
    time : tuple of float
        Sort key of images at the same place.
    """

    file: Path
    index: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: NDArray[np.float64]
    thickness: float
    time: tuple[float, ...]


@dataclass(frozen=True)
class Stack:
    """Hold sorted slices and their grid.

    Attributes
    ----------
    slices : list of list of Slice
        Slices by place along the normal, then by time.
    places : (n,)
        Position along the normal of each place, from 0, in units of the even distance between slices.
    affine : (4, 4)
        Index (column, row, slice) to RAS+ millimetres.
    findings : tuple of Finding
    """

    slices: list[list[Slice]]
    places: NDArray[np.float64]
    affine: NDArray[np.float64]
    findings: tuple[Finding, ...]

    @property
    def depth(self) -> int:
        """Count the slices of the even grid."""
        return round(float(self.places[-1])) + 1


def slices_of(file: Path, fields: Any) -> Iterator[Slice]:
    """Yield the slices of a DICOM file; none if the file does not state their position.

    Parameters
    ----------
    fields : pydicom.Dataset
    """
    frames = getattr(fields, "PerFrameFunctionalGroupsSequence", None)
    shared = fields.get("SharedFunctionalGroupsSequence", [])
    groups = [[frame, *shared] for frame in frames] if frames else [[fields]]
    for index, group in enumerate(groups):
        place = [_first(group, name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")]
        if any(value is None for value in place):
            return
        position, orientation, spacing = (np.asarray(value, dtype=np.float64) for value in place)
        thickness = _first(group, "SpacingBetweenSlices") or _first(group, "SliceThickness") or 0.0
        time = (*(float(_first(group, name) or 0) for name in TIMES), float(index))
        yield Slice(file, index, position, orientation, spacing=spacing, thickness=float(thickness), time=time)


def refuse_unplaced(images: Sequence[Any]) -> None:
    """Refuse several images of a sectional modality that lack what places them in a volume.

    Raises
    ------
    Unreadable
        If there are several; the message counts the images that lack each attribute.
    """
    lacking = {name: sum(one.get(name) in (None, "") for one in images) for name in PLACE}
    some_placed = min(lacking["ImagePositionPatient"], lacking["ImageOrientationPatient"]) < len(images)
    if len(images) < 2 or not (some_placed or images[0].get("Modality") in SECTIONAL):
        return
    missing = {PLACE[name]: count for name, count in lacking.items() if count}
    counts = ", ".join(f"{count} of {len(images)} images state no {name}" for name, count in missing.items())
    raise Unreadable(
        f"no {next(iter(missing), 'volume')}",
        f"{counts}, so that they form no volume; export the series once more with all attributes",
    )


def _first(groups: Sequence[Any], name: str) -> Any:
    """Find an attribute in data sets or in one of their functional groups."""
    for group in groups:
        if name in group and group[name].value not in (None, ""):
            return group[name].value
        for element in group:
            if (
                element.VR == "SQ"
                and element.value
                and element.keyword.endswith("Sequence")
                and name in element.value[0]
            ):
                value = element.value[0][name].value
                if value not in (None, ""):
                    return value
    return None


def stack(slices: Sequence[Slice], policy: Policy) -> Stack:
    """Sort slices along their normal and check that they form one even grid.

    Raises
    ------
    Unreadable
        If slices differ in orientation or pixel size, places repeat unevenly, or the policy does not fill gaps.
    """
    first = slices[0]
    for other in slices[1:]:
        if not np.allclose(other.orientation, first.orientation, atol=SAME_DIRECTION):
            raise Unreadable("mixed directions", "the slices differ in orientation, so they belong to several scans")
        if not np.allclose(other.spacing, first.spacing, rtol=SAME_DIRECTION):
            raise Unreadable("mixed spacing", "the slices differ in pixel size, so they belong to several scans")
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    rows = _by_place(slices, normal)
    positions = np.array([row[0].position for row in rows])
    steps = np.diff(positions @ normal)
    distance = float(np.median(steps)) if len(steps) else (first.thickness or float(first.spacing[0]))
    places = np.concatenate([[0.0], np.cumsum(steps)]) / distance
    findings = [*_gaps(steps / distance, policy)] if len(steps) else []
    if not findings:
        places = np.arange(len(rows), dtype=np.float64)
    step = (positions[-1] - positions[0]) / places[-1] if len(rows) > 1 else normal * distance
    findings += _tilt(step, normal)
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, positions[0]
    return Stack(rows, places, LPS_TO_RAS @ affine, tuple(findings))


def _by_place(slices: Sequence[Slice], normal: NDArray[np.float64]) -> list[list[Slice]]:
    """Group slices by place; refuse places that were imaged unequally often."""
    rows: list[list[Slice]] = []
    last = -np.inf
    for one in sorted(slices, key=lambda one: (float(one.position @ normal), one.time)):
        place = float(one.position @ normal)
        if rows and place - last < SAME_PLACE_MM:
            rows[-1].append(one)
        else:
            rows.append([one])
        last = place
    counts = {len(row) for row in rows}
    if len(counts) > 1:
        detail = (
            f"some places were imaged {max(counts)} times and some {min(counts)}: files are missing or of several scans"
        )
        raise Unreadable("uneven repeats", detail)
    return [sorted(row, key=lambda one: one.time) for row in rows]


def _gaps(steps: NDArray[np.float64], policy: Policy) -> Iterator[Finding]:
    """Report missing slices, given the distances between slices in units of their median."""
    missing = int(sum(max(round(step) - 1, 0) for step in steps))
    if np.abs(steps - 1).max() <= EVEN:
        return
    detail = f"{missing} slices are missing" if missing else "the slices are not evenly spaced"
    detail += f" (distances from {steps.min():.2f} to {steps.max():.2f} of their median)"
    if policy.missing_slices == "refuse":
        raise Unreadable("missing slices", detail, "cohort.reading.missing_slices")
    yield Finding(
        "missing slices",
        f"{detail}; they were interpolated from their neighbours",
        "repaired",
        "cohort.reading.missing_slices",
    )


def _tilt(step: NDArray[np.float64], normal: NDArray[np.float64]) -> list[Finding]:
    cosine = float(np.clip(abs(step @ normal) / np.linalg.norm(step), 0, 1))
    degrees = float(np.degrees(np.arccos(cosine)))
    if degrees <= TILT_DEGREES:
        return []
    return [
        Finding(
            "tilted", f"a gantry tilt of {degrees:.1f} degrees; the volume was resampled to right angles", "repaired"
        )
    ]
