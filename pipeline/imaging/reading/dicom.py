"""Read DICOM: a file, or a folder with one series. pydicom decodes the pixels.

Values are those that the standard defines: modality rescaling is applied (CT in Hounsfield units), MONOCHROME1
inverted, palettes looked up, YBR converted to RGB, slices sorted in space.
"""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, apply_modality_lut, iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.imaging.reading.dicom_series import LPS_TO_RAS, Stack, slices_of, stack
from pipeline.imaging.reading.scan import (
    Finding,
    Header,
    Policy,
    Scan,
    Unreadable,
    compact,
    pick_frame,
    refuse_frames,
    refuse_size,
    rescaled,
    volume_header,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # it warns that it supports Siemens mosaics only
    from nibabel.nicom.dicomwrappers import wrapper_from_data

ENDINGS = (".dcm", ".ima", ".dicom")

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its log contains values, which may identify a patient


def is_dicom(path: Path) -> bool:
    """Tell from its preamble whether a file is DICOM, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def files_in(folder: Path) -> list[Path]:
    """List the DICOM files of a folder, recognised by preamble or ending."""
    return sorted(filter(counts_as_dicom, folder.iterdir()))


def counts_as_dicom(file: Path) -> bool:
    """Tell whether a file is DICOM by its preamble or its ending."""
    return is_dicom(file) or file.name.lower().endswith(ENDINGS)


def read_fields(path: Path, *, pixels: bool = False) -> Any:
    """Read a file's attributes as a pydicom data set, with pixels only on request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes odd values, which may identify a patient
        return pydicom.dcmread(path, stop_before_pixels=not pixels, force=path.suffix.lower() in ENDINGS)


def read_header(path: Path, policy: Policy) -> Header:
    """Read the attributes of all files and check the geometry, without pixels."""
    return _described(_images(path), policy)[0]


def read_scan(path: Path, policy: Policy) -> Scan:
    """Read a series as a volume, or a single image."""
    images = _images(path)
    header, stacked = _described(images, policy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if _is_mosaic(images[0][1]):
            return _mosaic(images, header, policy)
        if stacked is None:
            return _image(images, header, policy)
        return _volume(dict(images), stacked, header, policy)


def _images(path: Path) -> list[tuple[Path, Any]]:
    """List the images of the single series at `path`, without repetitions."""
    files = files_in(path) if path.is_dir() else [path]
    images = [(file, fields) for file in files if "Rows" in (fields := read_fields(file))]
    if not images:
        raise Unreadable("no image", "it holds no DICOM image")
    series = {str(fields.get("SeriesInstanceUID", "")) for _, fields in images}
    if len(series) > 1:
        detail = f"the folder holds {len(series)} series; separate them with `medadapt import dicom`"
        raise Unreadable("several series", detail)
    return list({str(fields.get("SOPInstanceUID", file)): (file, fields) for file, fields in images}.values())


def _described(images: list[tuple[Path, Any]], policy: Policy) -> tuple[Header, Stack | None]:
    fields = images[0][1]
    modality, bits = str(fields.get("Modality", "")), int(fields.get("BitsStored", 16))
    findings = tuple(_burned_in(images))
    channels = 3 if int(fields.get("SamplesPerPixel", 1)) == 3 or _is_palette(fields) else 1
    for _, other in images:
        if (other.Rows, other.Columns) != (fields.Rows, fields.Columns):
            raise Unreadable("mixed sizes", "the images differ in size, so they belong to several scans")
    if _is_mosaic(fields):
        refuse_frames(len(images), policy)
        shape, affine = _mosaic_grid(fields)
        return volume_header(shape, affine, bits, policy, modality=modality, findings=findings), None
    slices = [one for file, other in images for one in slices_of(file, other)]
    if len(slices) < 2:
        frames = sum(int(other.get("NumberOfFrames", 1) or 1) for _, other in images)
        refuse_frames(frames, policy)
        shape = (int(fields.Rows), int(fields.Columns))
        refuse_size((*shape, frames), policy)
        return Header(shape, channels, _pixel_spacing(fields), bits, modality=modality, findings=findings), None
    frames_of_files = sum(int(other.get("NumberOfFrames", 1) or 1) for _, other in images)
    if len(slices) != frames_of_files:
        raise Unreadable("positions", f"only {len(slices)} of {frames_of_files} images state their position")
    stacked = stack(slices, policy)
    shape = (int(fields.Columns), int(fields.Rows), stacked.depth)
    refuse_frames(len(stacked.slices[0]), policy)
    refuse_size((*shape, len(stacked.slices[0])), policy)
    findings += stacked.findings
    affine = stacked.affine
    header = volume_header(shape, affine, bits, policy, channels=channels, modality=modality, findings=findings)
    return header, stacked


def _burned_in(images: list[tuple[Path, Any]]) -> Iterator[Finding]:
    marked = sum(str(fields.get("BurnedInAnnotation", "")).upper() == "YES" for _, fields in images)
    if marked:
        yield Finding(
            "burned-in text", f"{marked} images declare burned-in annotations; the pixels may show names", "warned"
        )


def _pixel_spacing(fields: Any) -> tuple[float, ...]:
    spacing = fields.get("PixelSpacing") or fields.get("ImagerPixelSpacing") or (1.0, 1.0)
    return tuple(float(size) for size in spacing)


def _is_palette(fields: Any) -> bool:
    return str(fields.get("PhotometricInterpretation", "")) == "PALETTE COLOR"


def _is_mosaic(fields: Any) -> bool:
    return "MOSAIC" in list(fields.get("ImageType") or [])


def _frames(file: Path, fields: Any) -> Iterator[NDArray[Any]]:
    """Decode a file's frames one by one, each (rows, columns) or (rows, columns, 3), in the scan's own units."""
    deflated = fields.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    for frame in iter_pixels(read_fields(file, pixels=True) if deflated else file):
        if _is_palette(fields):
            colours = apply_color_lut(frame, fields)
            yield (colours >> 8).astype(np.uint8) if colours.dtype.itemsize > 1 else colours
        elif frame.ndim == 3:
            yield frame
        else:
            yield _bright_grey(frame, fields)


def _bright_grey(frame: NDArray[Any], fields: Any) -> NDArray[Any]:
    """Invert MONOCHROME1, so that high values are bright."""
    if fields.get("PhotometricInterpretation") == "MONOCHROME1":
        highest = -1 if int(fields.get("PixelRepresentation", 0)) else 2 ** int(fields.BitsStored) - 1
        frame = (highest - frame.astype(np.int64)).astype(np.int32)
    return frame


def _modality_values(values: NDArray[Any], group: list[Any]) -> NDArray[Any]:
    """Apply the modality LUT or the rescaling of a data set or of a frame's functional groups."""
    for fields in group:
        if fields.get("ModalityLUTSequence"):
            return np.asarray(apply_modality_lut(values, fields))
        nested = fields.get("PixelValueTransformationSequence")
        source = nested[0] if nested else fields
        if "RescaleSlope" in source:
            slope, intercept = float(source.RescaleSlope), float(source.get("RescaleIntercept", 0))
            if (slope, intercept) == (1.0, 0.0):
                return values
            return rescaled(values[:, :, None], slope, intercept)[:, :, 0]
    return values


def _volume(fields_of: dict[Path, Any], stacked: Stack, header: Header, policy: Policy) -> Scan:
    place = {(one.file, one.index): (z, t) for z, row in enumerate(stacked.slices) for t, one in enumerate(row)}
    slices: list[list[Any]] = [[None] * len(row) for row in stacked.slices]
    for file, fields in fields_of.items():
        shared = list(fields.get("SharedFunctionalGroupsSequence", []))
        per_frame = fields.get("PerFrameFunctionalGroupsSequence")
        for index, frame in enumerate(_frames(file, fields)):
            z, t = place[file, index]
            group = [per_frame[index], *shared, fields] if per_frame else [fields]
            values = frame if frame.ndim == 3 else compact(_modality_values(frame, group))
            slices[z][t] = np.moveaxis(values, -1, 0) if values.ndim == 3 else values[np.newaxis]
    # from [place][time] of (C, rows, columns) to (C, columns, rows, places, times)
    frames = np.stack([np.stack(row, axis=-1) for row in slices], axis=-2).swapaxes(1, 2)
    values, affine, header = _one_frame(frames, stacked.affine, header, policy)
    if stacked.depth != len(slices) or not np.allclose(stacked.places, np.arange(len(slices))):
        values = _evenly(values, stacked)
    return Scan(values, affine, header)


def _evenly(values: NDArray[Any], stacked: Stack) -> NDArray[Any]:
    """Interpolate slices linearly onto the even grid; slices on the grid keep their values."""
    wanted = np.arange(stacked.depth)
    upper = np.clip(np.searchsorted(stacked.places, wanted), 1, len(stacked.places) - 1)
    low, high = stacked.places[upper - 1], stacked.places[upper]
    weight = np.clip((wanted - low) / (high - low), 0, 1).astype(np.float32)
    return values[..., upper - 1] * (1 - weight) + values[..., upper] * weight


def _image(images: list[tuple[Path, Any]], header: Header, policy: Policy) -> Scan:
    frames = [
        frame if frame.ndim == 3 else compact(_modality_values(frame, [fields]))[..., np.newaxis]
        for file, fields in images
        for frame in _frames(file, fields)
    ]
    voxels, affine, header = _one_frame(np.moveaxis(np.stack(frames, axis=-1), -2, 0), np.eye(4), header, policy)
    return Scan(np.ascontiguousarray(voxels), affine, header)


def _mosaic_grid(fields: Any) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Read shape and affine of a Siemens mosaic from its private header, by nibabel."""
    try:
        tiles = wrapper_from_data(fields)
        return tuple(int(size) for size in tiles.image_shape), LPS_TO_RAS @ tiles.affine
    except Exception as error:  # nibabel raises errors of any type on a truncated header
        detail = "the private header of this Siemens mosaic is missing or broken; convert the series with dcm2niix"
        raise Unreadable("mosaic", detail) from error


def _mosaic(images: list[tuple[Path, Any]], header: Header, policy: Policy) -> Scan:
    ordered = sorted(images, key=lambda image: int(image[1].get("InstanceNumber", 0)))
    tiles = [wrapper_from_data(read_fields(file, pixels=True)) for file, _ in ordered]
    frames = np.stack([np.asarray(one.get_data()) for one in tiles], axis=-1)[np.newaxis]
    affine = LPS_TO_RAS @ tiles[0].affine
    voxels, affine, header = _one_frame(frames, affine, header, policy)
    return Scan(voxels, affine, header)


def _one_frame(
    frames: NDArray[Any], affine: NDArray[np.float64], header: Header, policy: Policy
) -> tuple[NDArray[Any], NDArray[np.float64], Header]:
    """Select one frame along the last axis, and add a finding if there were several."""
    if frames.shape[-1] == 1:
        return compact(frames[..., 0]), affine, header
    values, finding = pick_frame(frames, policy)
    return compact(values), affine, replace(header, findings=(*header.findings, finding))
