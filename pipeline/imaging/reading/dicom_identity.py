"""Tell which DICOM images are one image stored twice, and which belong to several scans."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom

from pipeline.imaging.reading.scan import Unreadable

Image = tuple[Path, Any]  # a file and its attributes
IDENTITY = {  # all images of a scan agree in these
    "SeriesInstanceUID": "series",
    "PatientID": "patients",
    "StudyInstanceUID": "studies",
    "FrameOfReferenceUID": "frames of reference",
}
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "AcquisitionNumber", "EchoTime")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def refuse_several_scans(images: Sequence[Image]) -> None:
    """Refuse images of several series, patients, studies or frames of reference; an image may leave each empty.

    Raises
    ------
    Unreadable
        If images differ in one of them.
    """
    for keyword, what in IDENTITY.items():
        found = {str(fields.get(keyword) or "").strip() for _, fields in images} - {""}
        if len(found) > 1:
            detail = f"the folder holds images of {len(found)} {what}; separate them with `medadapt import dicom`"
            raise Unreadable(f"several {what}", detail)


def without_repetitions(images: Sequence[Image]) -> list[Image]:
    """Leave out files that hold an image once more; of each image, the first file stays."""
    of_uid: dict[str, list[Image]] = {}
    for image in images:
        of_uid.setdefault(str(image[1].get("SOPInstanceUID") or ""), []).append(image)
    kept: list[Path] = []
    for sharing in of_uid.values():
        contents = {content_of(*image) if len(sharing) > 1 else "": image[0] for image in reversed(sharing)}
        kept += contents.values()
    return [image for image in images if image[0] in kept]


def content_of(file: Path, fields: Any) -> str:
    """Identify an image by its place, its number and its pixels.

    A SOPInstanceUID alone does not: careless anonymisers write the same one, or none, into all images of a series.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = pydicom.dcmread(file, force=True, specific_tags=list(PIXELS))
    place = repr([str(fields.get(name, "")) for name in PLACE])
    stored = b"".join(pixels[name].value for name in PIXELS if name in pixels)
    return hashlib.sha256(place.encode() + stored).hexdigest()
