"""Decode the frames of a DICOM file into the scan's own units, and mark their padding.

PS3.3: C.7.6.3 (Image Pixel), C.7.5.1.1.2 (Pixel Padding Value), C.11.1 (Modality LUT) and C.7.6.16.2.9 (rescaling of
functional groups). pydicom decodes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000TransferSyntaxes

from pipeline.imaging.reading.scan import Unreadable, compact, rescaled

Mask = NDArray[np.bool_]
NUMBERS = (
    *("NumberOfFrames", "InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime"),
    *("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "SliceThickness"),
    *("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"),
)


def refuse_words(fields: Any) -> None:
    """Refuse a header that has a text where a number belongs."""
    for name in NUMBERS:
        value = fields.get(name)
        if any(isinstance(one, str) and one for one in (value if isinstance(value, MultiValue) else [value])):
            raise Unreadable("header", f"{name} is not a number; correct the header, or export the image again")


def decoded_frames(file: Path, fields: Any, whole_file: Any = None) -> Iterator[tuple[NDArray[Any], Mask | None]]:
    """Decode a file's frames one by one.

    Parameters
    ----------
    fields : pydicom.Dataset
        The attributes of the file; its pixels are not needed.
    whole_file : pydicom.Dataset, optional
        The file with its pixels, for a file that cannot be decoded piece by piece.

    Yields
    ------
    values : (rows, columns) or (rows, columns, 3)
        In the scan's own units; high values are bright.
    padded : (rows, columns) bool or None
        The pixels outside the imaged area, if the header states their value and there are any.
    """
    shared = list(fields.get("SharedFunctionalGroupsSequence") or [])
    per_frame = list(fields.get("PerFrameFunctionalGroupsSequence") or [])
    for index, frame in enumerate(_stored_frames(file if whole_file is None else whole_file, fields)):
        if is_palette(fields):
            colours = apply_color_lut(frame, fields)
            yield (colours >> 8).astype(np.uint8) if colours.dtype.itemsize > 1 else colours, None
        elif frame.ndim == 3:
            yield frame, None
        else:
            groups = [*per_frame[index : index + 1], *shared, fields]
            yield compact(_modality_values(_bright_grey(frame, fields), groups)), _padded(frame, fields)


def _stored_frames(source: Any, fields: Any) -> Iterator[NDArray[Any]]:
    frames = iter_pixels(source)
    try:
        first = next(frames)
    except ValueError as error:
        if "cannot reshape" in str(error):  # pydicom counts the bytes of a frame only where it has the whole file
            raise Unreadable("truncated", "its pixels are cut off; copy the file from its source again") from error
        if _syntax(fields) not in JPEG2000TransferSyntaxes:
            raise
        # the decoder returned read-only bytes, in which pydicom cannot correct a sign that the header contradicts
        frames = iter_pixels(source, decoding_plugin="pylibjpeg")
        first = next(frames)
    yield first
    yield from frames


def is_deflated(fields: Any) -> bool:
    """Tell whether a file must be inflated as a whole."""
    return bool(_syntax(fields) == DeflatedExplicitVRLittleEndian)


def is_palette(fields: Any) -> bool:
    """Tell whether pixels are numbers of colours."""
    return str(fields.get("PhotometricInterpretation", "")) == "PALETTE COLOR"


def states_units(fields: Any) -> bool:
    """Tell whether a file converts its stored values to units, by a rescaling or a modality LUT."""
    groups = [fields]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        groups += list(fields.get(name) or [])[:1]
    return any(_rescaling(one) is not None or one.get("ModalityLUTSequence") for one in groups)


def is_grey_byte(fields: Any) -> bool:
    """Tell whether values are grey levels from 0 to 255: unsigned bytes that no rescaling or LUT changes."""
    return (
        int(fields.get("BitsStored", 16)) <= 8
        and not int(fields.get("PixelRepresentation", 0))
        and not fields.get("ModalityLUTSequence")
        and _rescaling(fields) in (None, (1.0, 0.0))
    )


def _syntax(fields: Any) -> Any:
    return getattr(fields, "file_meta", {}).get("TransferSyntaxUID")


def _bright_grey(frame: NDArray[Any], fields: Any) -> NDArray[Any]:
    """Invert MONOCHROME1, so that high values are bright."""
    if fields.get("PhotometricInterpretation") == "MONOCHROME1":
        highest = -1 if int(fields.get("PixelRepresentation", 0)) else 2 ** int(fields.BitsStored) - 1
        frame = (highest - frame.astype(np.int64)).astype(np.int32)
    return frame


def _padded(stored: NDArray[Any], fields: Any) -> Mask | None:
    """Mark the stored pixels from PixelPaddingValue to PixelPaddingRangeLimit."""
    value = _given(fields, "PixelPaddingValue")
    if value is None or stored.dtype.kind not in "iu":
        return None
    limit = _given(fields, "PixelPaddingRangeLimit")
    ends = [_as_stored(int(one), fields) for one in (value, value if limit is None else limit)]
    padded: Mask = (stored >= min(ends)) & (stored <= max(ends))
    return padded if padded.any() else None


def _as_stored(value: int, fields: Any) -> int:
    """Read a value of 16 bits with the sign of the pixels, whichever sign its own representation has."""
    span: int = 2 ** int(fields.BitsAllocated)
    half = span // 2 if int(fields.get("PixelRepresentation", 0)) else 0
    return (value + half) % span - half


def _modality_values(values: NDArray[Any], groups: list[Any]) -> NDArray[Any]:
    """Apply the modality LUT or the rescaling of a frame's functional groups, or of the data set."""
    for fields in groups:
        if tables := fields.get("ModalityLUTSequence"):
            return _looked_up(values, tables[0])
        if (rescaling := _rescaling(fields)) is not None:
            slope, intercept = rescaling
            return values if rescaling == (1.0, 0.0) else rescaled(values[:, :, None], slope, intercept)[:, :, 0]
    return values


def _rescaling(fields: Any) -> tuple[float, float] | None:
    """Read slope and intercept; where one is missing or empty, it is 1 or 0; None where both are."""
    nested = fields.get("PixelValueTransformationSequence")
    source = nested[0] if nested else fields
    slope, intercept = _given(source, "RescaleSlope"), _given(source, "RescaleIntercept")
    if slope is None and intercept is None:
        return None
    return float(1 if slope is None else slope), float(0 if intercept is None else intercept)


def _given(fields: Any, name: str) -> Any:
    value = fields.get(name)
    return None if value in (None, "") else value


def _looked_up(values: NDArray[Any], table: Any) -> NDArray[Any]:
    """Look values up in a modality LUT of any depth; values outside of it take its first or last entry."""
    count, first, depth = (int(one) for one in table.LUTDescriptor)
    count = count or 2**16
    if values.dtype.kind == "i" and first >= 2**15:  # written as an unsigned number
        first -= 2**16
    entries = table.LUTData
    if isinstance(entries, bytes):
        entries = np.frombuffer(entries, np.uint8 if depth <= 8 and len(entries) < 2 * count else np.dtype("<u2"))
    found: NDArray[Any] = np.asarray(entries).astype(np.int32)[:count]
    return found[np.clip(values.astype(np.int64) - first, 0, len(found) - 1)]
