"""A saliency map as a DICOM Segmentation on the slices of its series, and as a colour secondary capture."""

from typing import Any

import numpy as np
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.sc import SCImage
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from pipeline.bundle.dicom_results.model import RESEARCH, Model, shortened, uid_of
from pipeline.bundle.dicom_results.source import Source

STRONG = 0.5  # of the largest saliency; from here on a voxel is in the segment
SEGMENT_SERIES, CAPTURE_SERIES = 9902, 9903
CATEGORY, KIND = CodedConcept("309825002", "SCT", "Spatial and Relational Concept"), codes.DCM.SelectedRegion
PURPOSE = codes.DCM.SourceImageForImageProcessingOperation
FAMILY = CodedConcept("123110", "DCM", "Artificial Intelligence")


def segmentation_of(
    source: Source, strong: NDArray[np.bool_], asked: str, *, model: Model, identity: tuple[str, ...]
) -> Any:
    """Write the region of strong saliency as a segmentation.

    Parameters
    ----------
    source : Source
    strong : (frames, rows, columns) bool
        Where the saliency is at least `STRONG`, for each frame in the order of the source's images.
    asked : str
        The class that the region supports.
    model : Model
    identity : tuple of str

    Returns
    -------
    highdicom.seg.Segmentation
    """
    title = shortened(model.title)
    described = SegmentDescription(
        segment_number=1,
        segment_label=shortened(f"Saliency of {asked}"),
        segmented_property_category=CATEGORY,
        segmented_property_type=KIND,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(title, FAMILY, model.version),
        tracking_uid=uid_of("saliency", *identity),
        tracking_id=shortened(f"Saliency of {asked}"),
    )
    found = Segmentation(
        source_images=source.images,
        pixel_array=strong.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[described],
        series_instance_uid=uid_of("segmentation series", *identity),
        series_number=SEGMENT_SERIES,
        sop_instance_uid=uid_of("segmentation", *identity),
        instance_number=1,
        **model.equipment,
        content_label="SALIENCY",
        content_description=RESEARCH,
    )
    found.SeriesDescription = shortened(f"Research use only: saliency, {model.title}")
    _fix_dimensions(found, uid_of("dimensions", *identity))
    return found


def _fix_dimensions(found: Any, uid: str) -> None:
    """Replace the random identifier of the dimensions, so that the same input gives the same object."""
    for one in (*found.DimensionOrganizationSequence, *found.DimensionIndexSequence):
        one.DimensionOrganizationUID = uid


def capture_of(
    source: Source, image: NDArray[np.uint8], shown: int | None, *, model: Model, identity: tuple[str, ...]
) -> Any:
    """Write a rendering with its map as a secondary capture that refers to the image it shows.

    Parameters
    ----------
    source : Source
    image : (rows, columns, 3) uint8
    shown : int or None
        Number of the shown frame among the frames of the source; None refers to the whole series.
    model : Model
    identity : tuple of str

    Returns
    -------
    highdicom.sc.SCImage
    """
    found = SCImage.from_ref_dataset(
        ref_dataset=source.images[0],
        pixel_array=image,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=uid_of("capture series", *identity),
        series_number=CAPTURE_SERIES,
        sop_instance_uid=uid_of("capture", *identity),
        instance_number=1,
        patient_orientation=("L", "P"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **model.equipment,
    )
    for name in ("PatientOrientation", "Laterality"):  # of type 2C: they may be empty
        setattr(found, name, source.images[0].get(name))
    found.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    found.BurnedInAnnotation = "NO"  # nothing that identifies the patient
    found.SeriesDescription = shortened(f"Research use only: saliency, {model.title}")
    found.DerivationDescription = f"Saliency map over the image. {RESEARCH}"
    found.SourceImageSequence = references_to(source, shown)
    return found


def references_to(source: Source, shown: int | None) -> list[Dataset]:
    """Refer to one frame, or to every image of the series."""
    several = len(source.images) > 1
    images = [source.images[shown]] if shown is not None and several else source.images
    references = []
    for one in images:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        if shown is not None and not several and int(one.get("NumberOfFrames", 1) or 1) > 1:
            reference.ReferencedFrameNumber = shown + 1
        reference.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(PURPOSE)]
        references.append(reference)
    return references
