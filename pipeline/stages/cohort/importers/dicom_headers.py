"""De-identify DICOM headers: keep only the attributes needed to read the image correctly.

The module uses an allow-list, because a list of attributes to remove is never complete: it misses private elements
and future elements of the standard. Of the attributes in the output, only the UIDs and the patient's name and id are
in Table E.1-1 of DICOM PS3.15 (Basic Application Level Confidentiality Profile); the module replaces their values as
the table demands. It does not change pixels: faces and burned-in text remain.
"""

import hashlib
import struct
import uuid
from collections.abc import Callable, Iterable
from copy import copy

from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

METHOD = "medadapt: allow-list within DICOM PS3.15 E.1 Basic Profile"

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
COLOURS = ("Red", "Green", "Blue", "Alpha")
OF_THE_WHOLE = frozenset(("SOPClassUID", "Modality", "ImageType", "BodyPartExamined", "BurnedInAnnotation"))
OF_ITEMS = frozenset(
    (
        # image pixel module
        *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PixelAspectRatio", "NumberOfFrames"),
        *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
        *("PixelPaddingValue", "PixelPaddingRangeLimit", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
        *PIXELS,
        # colour palettes
        *(f"{colour}PaletteColorLookupTableDescriptor" for colour in COLOURS),
        *(f"{colour}PaletteColorLookupTableData" for colour in COLOURS),
        *(f"Segmented{colour}PaletteColorLookupTableData" for colour in COLOURS),
        # conversion of stored values to the scan's units
        *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "LUTDescriptor", "LUTData"),
        "PixelValueTransformationSequence",
        # position and orientation
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
        *("NominalScannedPixelSpacing", "SequenceOfUltrasoundRegions", "PhysicalDeltaX", "PhysicalDeltaY"),
        *("PhysicalUnitsXDirection", "PhysicalUnitsYDirection"),
        *("SliceThickness", "SpacingBetweenSlices", "SliceLocation"),
        *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "DetectorInformationSequence"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "FrameContentSequence"),
        # order of acquisition
        *("InstanceNumber", "AcquisitionNumber", "EchoTime", "InStackPositionNumber"),
        *("TemporalPositionIdentifier", "TemporalPositionIndex", "NumberOfTemporalPositions"),
    )
)
KEPT = OF_THE_WHOLE | OF_ITEMS
REPLACED_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
FREE_TEXT = frozenset(("AE", "AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UN", "UR", "UT"))

ITEM = (0xFFFE, 0xE000)
CODESTREAMS = (b"\xff\xd8", b"\xff\x4f")  # JPEG and JPEG-LS, JPEG 2000
CODED_DATA = (0xDA, 0x90)
# comments and application data, except JFIF (0) and the colour transforms of HP (JPEG-LS, 8) and Adobe (JPEG, 14)
REMARKS = frozenset((0xFE, 0x64, *range(0xE1, 0xF0))) - {0xE8, 0xEE}

Rename = Callable[[str], str]


def text_of(fields: Dataset, keyword: str) -> str:
    """Return an attribute as text without surrounding blanks, or an empty string if it is missing."""
    value = fields.get(keyword)
    return "" if value is None else str(value).strip()


def patient_of(fields: Dataset) -> str:
    """Identify the patient by id, else by name and date of birth, else by the study UID."""
    by_name = f"{text_of(fields, 'PatientName')} {text_of(fields, 'PatientBirthDate')}".strip()
    known = by_name if text_of(fields, "PatientName") else text_of(fields, "StudyInstanceUID")
    return text_of(fields, "PatientID") or known


def why_not_copied(fields: Dataset) -> str:
    """Return the reason why the image cannot be copied with a de-identified header, or an empty string."""
    if "MOSAIC" in list(fields.get("ImageType") or []):
        return "only its private header takes a Siemens mosaic apart: use --link, or convert it with dcm2niix"
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in fields and fields[group, 0x0102].value:
            return "an overlay lies between the bits of its pixels, maybe with names: use --link if you may"
    if not (text_of(fields, "SOPClassUID") and text_of(fields, "SOPInstanceUID")):
        return "it lacks SOPClassUID or SOPInstanceUID, which every DICOM file has: use --link, or repair it"
    return ""


def deidentified(fields: Dataset, rename: Rename) -> Dataset:
    """Build a data set with the same image and without patient identity, date and place.

    Parameters
    ----------
    fields : pydicom.Dataset
        Data set of a file, with its pixels. The function does not change it.
    rename : callable
        Function from an original name to its pseudonym under a secret.

    Returns
    -------
    pydicom.Dataset
        Data set with new file meta information, ready to save; compressed pixels stay compressed.
    """
    kept = _allowed(fields, KEPT)
    for keyword in REPLACED_UIDS:
        if text_of(fields, keyword):
            setattr(kept, keyword, renamed_uid(text_of(fields, keyword), rename))
    kept.PatientName = kept.PatientID = rename(patient_of(fields))
    kept.PatientIdentityRemoved = "YES"
    kept.DeidentificationMethod = METHOD
    kept.LongitudinalTemporalInformationModified = "REMOVED"
    kept.file_meta = FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = _transfer_syntax(fields)
    kept.file_meta.MediaStorageSOPClassUID = kept.SOPClassUID
    kept.file_meta.MediaStorageSOPInstanceUID = kept.SOPInstanceUID
    if kept.file_meta.TransferSyntaxUID.is_encapsulated and "PixelData" in kept:
        kept["PixelData"].value = without_remarks(kept.PixelData)
    return kept


def _allowed(fields: Dataset, keywords: Iterable[str]) -> Dataset:
    """Copy the listed attributes, and in sequences the attributes in `OF_ITEMS`."""
    allowed = Dataset()
    for keyword in keywords:
        element = copy(fields[keyword]) if keyword in fields else None
        if element is None or element.VR in FREE_TEXT:
            continue
        if element.VR == "SQ":
            element.value = Sequence(_allowed(item, OF_ITEMS) for item in element.value)
        allowed.add(element)
    return allowed


def renamed_uid(uid: str, rename: Rename) -> str:
    """Replace a UID by a UUID-derived one (PS3.5, B.2); only the holder of the secret can link the two."""
    # one pseudonym is too short to be unique among millions of images
    drawn = "".join(rename(f"uid/{part}/{uid}") for part in range(3))
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256(drawn.encode()).digest()[:16], version=5).int}"


def _transfer_syntax(fields: Dataset) -> UID:
    """Return the stated transfer syntax, else infer it from the encoding in which pydicom read the data set."""
    stated = getattr(fields, "file_meta", Dataset()).get("TransferSyntaxUID")
    if stated:
        return UID(stated)
    is_implicit, _ = fields.original_encoding
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def without_remarks(pixels: bytes) -> bytes:
    """Overwrite the comments and application data before compressed frames with zeros.

    The function overwrites them instead of removing them, so that offset tables stay correct.

    Parameters
    ----------
    pixels : bytes
        Encapsulated pixel data: items with a tag, a length and a fragment (PS3.5, A.4).
    """
    blanked = bytearray(pixels)
    at = 0
    while at + 8 <= len(blanked):
        *tag, length = struct.unpack_from("<HHI", blanked, at)
        if tuple(tag) != ITEM:
            break
        _blank_remarks(blanked, at + 8, min(at + 8 + length, len(blanked)))
        at += 8 + length
    return bytes(blanked)


def _blank_remarks(stream: bytearray, at: int, end: int) -> None:
    """Blank the comments and application data in the marker segments of one fragment before its coded data."""
    if bytes(stream[at : at + 2]) not in CODESTREAMS:
        return
    at += 2
    while at + 4 <= end and stream[at] == 0xFF and stream[at + 1] not in CODED_DATA:
        (size,) = struct.unpack_from(">H", stream, at + 2)
        stop = min(at + 2 + size, end)
        if stream[at + 1] in REMARKS:
            stream[at + 4 : stop] = bytes(max(stop - at - 4, 0))
        at += 2 + size
