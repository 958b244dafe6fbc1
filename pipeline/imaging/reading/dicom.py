"""Read DICOM: a file, or a folder with one series. pydicom decodes the pixels.

Values are those that the standard defines: modality rescaling is applied (CT in Hounsfield units), MONOCHROME1
inverted, palettes looked up, YBR converted to RGB, slices sorted in space.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from pipeline.imaging.reading.dicom_identity import refuse_several_scans, without_repetitions
from pipeline.imaging.reading.dicom_series import LPS_TO_RAS, Stack, refuse_unplaced, slices_of, stack
from pipeline.imaging.reading.dicom_values import (
    decoded_frames,
    is_deflated,
    is_grey_byte,
    is_palette,
    refuse_words,
    states_units,
)
from pipeline.imaging.reading.padding import darkened
from pipeline.imaging.reading.proportions import is_in_mm, spacing_of_dicom
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
    volume_header,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # it warns that it supports Siemens mosaics only
    from nibabel.nicom.dicomwrappers import wrapper_from_data

NO_AIR = -500.0  # Hounsfield units
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
    return _described(images_at(path), policy)[0]


def read_scan(path: Path, policy: Policy) -> Scan:
    """Read a series as a volume, or a single image."""
    images = images_at(path)
    header, stacked = _described(images, policy)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if _is_mosaic(images[0][1]):
            scan = _mosaic(images, header, policy)
        elif stacked is None:
            scan = _image(images, header, policy)
        else:
            scan = _volume(dict(images), stacked, header, policy)
    return replace(scan, header=replace(scan.header, findings=(*scan.header.findings, *_of_decoder(told))))


def _of_decoder(told: list[warnings.WarningMessage]) -> Iterator[Finding]:
    """Report what pydicom says of the pixels, without quoted values; its other warnings may name a person."""
    of_pixels = [one for one in told if {"pixels", "encaps.py"} & set(Path(one.filename).parts)]
    for text in sorted({re.sub(r" '[^']*'", "", str(one.message)) for one in of_pixels}):
        yield Finding("decoder", f"the decoder warned: {text}", "warned")


def images_at(path: Path) -> list[tuple[Path, Any]]:
    """List the images of the single series at `path`, without repetitions."""
    files = files_in(path) if path.is_dir() else [path]
    images = [(file, fields) for file in files if "Rows" in (fields := read_fields(file))]
    if not images:
        raise Unreadable("no image", "it holds no DICOM image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes odd values
        for _, fields in images:
            refuse_words(fields)
    refuse_several_scans(images)
    return without_repetitions(images)


def _described(images: list[tuple[Path, Any]], policy: Policy) -> tuple[Header, Stack | None]:
    fields = images[0][1]
    modality, bits = str(fields.get("Modality", "")), int(fields.get("BitsStored", 16))
    bits = bits if is_grey_byte(fields) else max(bits, 9)  # so that no window is taken for applied
    findings = (*_burned_in(images), *_without_units(fields))
    channels = 3 if int(fields.get("SamplesPerPixel", 1)) == 3 or is_palette(fields) else 1
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
        refuse_unplaced([other for _, other in images])
        refuse_frames(frames, policy)
        shape = (int(fields.Rows), int(fields.Columns))
        refuse_size((*shape, frames), policy)
        spacing, known = spacing_of_dicom(fields), is_in_mm(fields)
        return Header(shape, channels, spacing, bits, modality=modality, findings=findings, in_mm=known), None
    frames_of_files = sum(int(other.get("NumberOfFrames", 1) or 1) for _, other in images)
    if len(slices) != frames_of_files:
        detail = f"{len(slices)} positions are stated, but {frames_of_files} images are declared"
        raise Unreadable("positions", f"{detail}; files are missing, or a header contradicts itself")
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


def _without_units(fields: Any) -> Iterator[Finding]:
    if fields.get("Modality") == "CT" and not states_units(fields):
        detail = (
            "the CT states no rescaling, so its values may not be Hounsfield units; compare them with air and water"
        )
        yield Finding("rescaling", detail, "warned")


def _is_mosaic(fields: Any) -> bool:
    return "MOSAIC" in list(fields.get("ImageType") or [])


def _decoded(file: Path, fields: Any) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Decode a file's frames as (C, rows, columns), each with a mask of its padding."""
    for values, padded in decoded_frames(file, fields, read_fields(file, pixels=True) if is_deflated(fields) else None):
        channels = np.moveaxis(values, -1, 0) if values.ndim == 3 else values[np.newaxis]
        yield channels, np.zeros(channels.shape[1:], np.bool_) if padded is None else padded


def _volume(fields_of: dict[Path, Any], stacked: Stack, header: Header, policy: Policy) -> Scan:
    place = {(one.file, one.index): (z, t) for z, row in enumerate(stacked.slices) for t, one in enumerate(row)}
    slices: list[list[Any]] = [[None] * len(row) for row in stacked.slices]
    masks: list[list[Any]] = [[None] * len(row) for row in stacked.slices]
    for file, fields in fields_of.items():
        for index, (values, padded) in enumerate(_decoded(file, fields)):
            z, t = place[file, index]
            slices[z][t], masks[z][t] = values, padded
    # from [place][time] of (C, rows, columns) to (C, columns, rows, places, times)
    frames = np.stack([np.stack(row, axis=-1) for row in slices], axis=-2).swapaxes(1, 2)
    outside = np.stack([_of_frames(row, policy) for row in masks], axis=-1).swapaxes(0, 1)
    values, affine, header = _one_frame(frames, stacked.affine, header, policy)
    scan = _without_air(darkened(Scan(values, affine, header), outside))
    if stacked.depth != len(slices) or not np.allclose(stacked.places, np.arange(len(slices))):
        scan = replace(scan, voxels=_evenly(scan.voxels, stacked))
    return scan


def _without_air(scan: Scan) -> Scan:
    """Add a finding to a CT volume whose darkest voxels are nowhere near air (-1000 Hounsfield units)."""
    inside = scan.voxels if scan.background is None else scan.voxels[scan.voxels != scan.background]
    if scan.header.modality != "CT" or any(one.check == "rescaling" for one in scan.header.findings):
        return scan
    if (lowest := inside.min()) < NO_AIR:
        return scan
    detail = f"no voxel of the CT is near air, the lowest is {lowest:g}; its values may not be Hounsfield units"
    found = Finding("rescaling", detail, "warned")
    return replace(scan, header=replace(scan.header, findings=(*scan.header.findings, found)))


def _of_frames(masks: list[NDArray[np.bool_]], policy: Policy) -> NDArray[np.bool_]:
    """Join the masks of the frames at one place as the policy joins their values."""
    return masks[0] if policy.frames != "mean" else np.logical_or.reduce(masks)


def _evenly(values: NDArray[Any], stacked: Stack) -> NDArray[Any]:
    """Interpolate slices linearly onto the even grid; slices on the grid keep their values."""
    wanted = np.arange(stacked.depth)
    upper = np.clip(np.searchsorted(stacked.places, wanted), 1, len(stacked.places) - 1)
    low, high = stacked.places[upper - 1], stacked.places[upper]
    weight = np.clip((wanted - low) / (high - low), 0, 1).astype(np.float32)
    return values[..., upper - 1] * (1 - weight) + values[..., upper] * weight


def _image(images: list[tuple[Path, Any]], header: Header, policy: Policy) -> Scan:
    decoded = [one for file, fields in images for one in _decoded(file, fields)]
    frames = np.stack([values for values, _ in decoded], axis=-1)
    voxels, affine, header = _one_frame(frames, np.eye(4), header, policy)
    outside = _of_frames([padded for _, padded in decoded], policy)
    return darkened(Scan(np.ascontiguousarray(voxels), affine, header), outside)


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
