"""Make a DICOM segmentation the mask of the series that it refers to."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.imaging.masks.reading import read_mask
from pipeline.imaging.reading.scan import STRICT, Unreadable
from pipeline.imaging.tables.cohort_table import MASK
from pipeline.stages.cohort.importers.dicom_series import Segmentation, Series
from pipeline.stages.cohort.importers.found import LISTED_SINGLY, BadCase, Import, Write
from pipeline.stages.cohort.importers.masks import PLACE

OF_NO_SERIES = "a segmentation of no series that was taken"
OVERLAP = "a segmentation whose segments overlap, which a copy cannot hold: use --link"


def attach_segmentations(
    found: Import, scans: Sequence[Series], segmentations: Sequence[Segmentation], folder: Path, *, link: bool
) -> None:
    """Add to each case of an import the segmentation that refers to its series, and leave out the others.

    A copy is a NIfTI file of the segments' numbers, so that no header leaves with it. A series to which several
    segmentations refer gets none: all of them are left out, by name.

    Parameters
    ----------
    found : Import
        Its cases are those of the scans, in the same order.
    scans : sequence of Series
    segmentations : sequence of Segmentation
    folder : Path
        Folder that is imported.
    link : bool
        Link to the segmentation instead of writing a copy.
    """
    if not segmentations:
        return
    of_scan: dict[int, list[Segmentation]] = {number: [] for number in range(len(scans))}
    for one in segmentations:
        numbers = one.scans_among(scans)
        if not numbers:
            found.left_out.append((str(one.file.relative_to(folder)), OF_NO_SERIES))
        for number in numbers:
            of_scan[number].append(one)
    taken = []
    for number, several in of_scan.items():
        case, reason = found.cases[number], _why_not_taken(several, scans[number], folder, link=link)
        found.left_out += [(str(one.file.relative_to(folder)), reason) for one in several if reason]
        place, parts = Path(), {}
        if several and not reason:
            taken += several
            place = PLACE / f"{case.row['image']}{'.dcm' if link else '.nii.gz'}"
            copy: Write = partial(_write_labels, several[0].file)
            parts = {place: several[0].file if link else copy}
        row = {**case.row, MASK: str(place) if parts else ""}
        found.cases[number] = replace(case, row=row, parts={**case.parts, **parts})
    found.notes += [f"{len(taken)} of {len(found.cases)} images have a mask", *_segments_of(taken)]


def _why_not_taken(several: Sequence[Segmentation], scan: Series, folder: Path, *, link: bool) -> str:
    """Return the reason why a series gets no mask of the segmentations that refer to it, or an empty string."""
    if len(several) > 1:
        names = ", ".join(str(one.file.relative_to(folder)) for one in several)
        uid = scan.facts["series"]
        return f"series {uid} has several segmentations ({names}) and so gets no mask: keep one in the folder"
    try:
        overlaps = any(read_mask(one.file, STRICT).overlapping for one in several)
    except Unreadable as error:
        return f"a segmentation that cannot be read: {error}"
    return OVERLAP if overlaps and not link else ""


def _segments_of(taken: Sequence[Segmentation]) -> Iterator[str]:
    """Say what the label numbers of the masks stand for, for `cohort.mask_labels`."""
    counts = Counter(segment for one in taken for segment in one.segments)
    told = [f"{number} is {label or 'unnamed'} in {count}" for (number, label), count in sorted(counts.items())]
    if told:
        more = f" and {len(told) - LISTED_SINGLY} more" if len(told) > LISTED_SINGLY else ""
        yield f"labels of the masks: {', '.join(told[:LISTED_SINGLY])}{more}"


def _write_labels(source: Path, target: Path) -> None:
    try:
        mask = read_mask(source, STRICT)
    except Unreadable as error:
        raise BadCase(f"its segmentation {source.name} cannot be read: {error}") from error
    smallest = np.uint8 if mask.labels.max(initial=0) < 256 else np.uint16
    nib.save(nib.Nifti1Image(mask.labels.astype(smallest), mask.affine), target)
