"""The series that a result refers to: its headers without pixels, completed where an attribute may be empty."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.reading.dicom import counts_as_dicom, images_at
from pipeline.imaging.reading.dicom_series import LPS_TO_RAS, slices_of
from pipeline.imaging.reading.scan import Unreadable

NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
MAY_BE_EMPTY = (  # PS3.3, C.7.1.1 and C.7.2.1, type 2: copied, so that they must exist
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
ON_GRID = 0.05  # of a slice; a slice that lies further from the grid of the scan was resampled


class NoSource(ValueError):
    """A scan to which no DICOM object can refer; the message says why, without names."""


@dataclass(frozen=True)
class Source:
    """The images of one series.

    Attributes
    ----------
    files : tuple of Path
    images : tuple of pydicom.Dataset
        Their attributes, without pixels.
    """

    files: tuple[Path, ...]
    images: tuple[Any, ...]

    @property
    def uids(self) -> list[str]:
        """SOP Instance UIDs."""
        return [str(one.SOPInstanceUID) for one in self.images]

    def slice_numbers(self, affine: NDArray[np.float64], depth: int) -> NDArray[np.int64] | None:
        """Find the slice (index along the third axis of the scan) of each frame, in the order of `images`.

        None if the frames and the slices of the scan do not match one to one: without positions, after a resampling,
        or for several images of a place.
        """
        places = [one for file, fields in zip(self.files, self.images, strict=True) for one in slices_of(file, fields)]
        if len(places) != depth:
            return None
        positions = np.array([[*one.position, 1.0] for one in places]) @ LPS_TO_RAS.T
        along = (positions @ np.linalg.inv(affine).T)[:, 2]
        numbers = np.rint(along).astype(np.int64)
        one_to_one = np.array_equal(np.sort(numbers), np.arange(depth)) and np.abs(along - numbers).max() < ON_GRID
        return numbers if one_to_one else None


def is_dicom_scan(path: Path) -> bool:
    """Tell whether a scan is a DICOM file, or a folder with DICOM files."""
    return any(map(counts_as_dicom, path.iterdir())) if path.is_dir() else path.is_file() and counts_as_dicom(path)


def source_of(path: Path) -> Source:
    """Read the headers of the series at a path, a file or a folder.

    Raises
    ------
    NoSource
        If it is not DICOM, or an image lacks the UIDs by which others refer to it.
    """
    if not is_dicom_scan(path):
        raise NoSource("it is not DICOM, so that there is no study to which a result could go back")
    try:
        found = images_at(path)
    except (Unreadable, OSError) as error:
        raise NoSource("its DICOM headers cannot be read") from error
    images = [fields for _, fields in found]
    for name in NEEDED:
        if lacking := sum(not str(one.get(name) or "").strip() for one in images):
            raise NoSource(f"{lacking} of {len(images)} images state no {name}")
    for one in images:
        for name in MAY_BE_EMPTY:
            if name not in one:
                setattr(one, name, None)
    return Source(tuple(file for file, _ in found), tuple(images))
