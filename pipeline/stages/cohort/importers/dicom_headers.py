"""DICOM headers without the person: keeps what is needed to read an image right, and nothing else.

An allow-list, because a list of what to remove is never complete: private elements, and those that the standard will
add. None of what is kept stands in Table E.1-1 of DICOM PS3.15 (Basic Application Level Confidentiality Profile), but
UIDs, name and id of the patient, which are replaced as the table demands. Pixels are not changed: a face, or text
burned into them, stays.
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
        # palettes
        *(f"{colour}PaletteColorLookupTableDescriptor" for colour in COLOURS),
        *(f"{colour}PaletteColorLookupTableData" for colour in COLOURS),
        *(f"Segmented{colour}PaletteColorLookupTableData" for colour in COLOURS),
        # from stored values to the scan's units
        *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "LUTDescriptor", "LUTData"),
        "PixelValueTransformationSequence",
        # where it lies
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
        *("SliceThickness", "SpacingBetweenSlices", "SliceLocation"),
        *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "DetectorInformationSequence"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "FrameContentSequence"),
        # in which order it was taken
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
# comments, and application data but JFIF (0), HP's colour transform of JPEG-LS (8) and Adobe's of JPEG (14)
REMARKS = frozenset((0xFE, 0x64, *range(0xE1, 0xF0))) - {0xE8, 0xEE}

Rename = Callable[[str], str]


def text_of(fields: Dataset, keyword: str) -> str:
    """Give an attribute as text without blanks around it; empty where it is missing."""
    value = fields.get(keyword)
    return "" if value is None else str(value).strip()


def patient_of(fields: Dataset) -> str:
    """Name the patient: by id, else by name and date of birth, else by the study."""
    by_name = f"{text_of(fields, 'PatientName')} {text_of(fields, 'PatientBirthDate')}".strip()
    known = by_name if text_of(fields, "PatientName") else text_of(fields, "StudyInstanceUID")
    return text_of(fields, "PatientID") or known


def why_not_copied(fields: Dataset) -> str:
    """Say why an image cannot be had without its header as it is, or nothing."""
    if "MOSAIC" in list(fields.get("ImageType") or []):
        return "only its private header takes a Siemens mosaic apart: use --link, or convert it with dcm2niix"
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in fields and fields[group, 0x0102].value:
            return "an overlay lies between the bits of its pixels, maybe with names: use --link if you may"
    if not (text_of(fields, "SOPClassUID") and text_of(fields, "SOPInstanceUID")):
        return "it lacks SOPClassUID or SOPInstanceUID, which every DICOM file has: use --link, or repair it"
    return ""


def deidentified(fields: Dataset, rename: Rename) -> Dataset:
    """Make a data set that reads as the same image and says nothing about whom it shows, when and where.

    Parameters
    ----------
    fields : pydicom.Dataset
        A file's data set with its pixels; it is not changed.
    rename : callable
        Gives the pseudonym of an original name, under a secret.

    Returns
    -------
    pydicom.Dataset
        With file meta information of its own, ready to be saved; compressed pixels stay compressed.
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
    """Take over what is listed, in sequences what is listed for their items."""
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
    """Replace a UID by one that only the holder of the secret can connect with it (PS3.5, B.2)."""
    # one pseudonym is too short to keep millions of images apart
    drawn = "".join(rename(f"uid/{part}/{uid}") for part in range(3))
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256(drawn.encode()).digest()[:16], version=5).int}"


def _transfer_syntax(fields: Dataset) -> UID:
    """Find how the data set is encoded; a file without meta information shows it by the way it was read."""
    stated = getattr(fields, "file_meta", Dataset()).get("TransferSyntaxUID")
    if stated:
        return UID(stated)
    is_implicit, _ = fields.original_encoding
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def without_remarks(pixels: bytes) -> bytes:
    """Blank the comments and application data in front of compressed frames.

    They are overwritten, not removed, so that tables of offsets stay right.

    Parameters
    ----------
    pixels : bytes
        Encapsulated pixel data: items of a tag, a length and a fragment (PS3.5, A.4).
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
    """Walk the marker segments of one fragment up to its coded data."""
    if bytes(stream[at : at + 2]) not in CODESTREAMS:
        return
    at += 2
    while at + 4 <= end and stream[at] == 0xFF and stream[at + 1] not in CODED_DATA:
        (size,) = struct.unpack_from(">H", stream, at + 2)
        stop = min(at + 2 + size, end)
        if stream[at + 1] in REMARKS:
            stream[at + 4 : stop] = bytes(max(stop - at - 4, 0))
        at += 2 + size
