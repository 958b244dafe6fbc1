"""Read NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) through SimpleITK, after checking the declared size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK

from pipeline.imaging.reading.companions import lies_elsewhere
from pipeline.imaging.reading.dicom_series import LPS_TO_RAS
from pipeline.imaging.reading.scan import (
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
from pipeline.imaging.reading.text_headers import geometry_not_stated, header_fields, states_size

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # warnings contain the file's name


def read_header(path: Path, policy: Policy) -> Header:
    """Read size, spacing and direction without the voxels."""
    return _described(_information(path), path, policy)


def read_scan(path: Path, policy: Policy) -> Scan:
    """Read a volume or an image."""
    reader = _information(path)
    header = _described(reader, path, policy)
    image = reader.Execute()
    values = SimpleITK.GetArrayFromImage(image)  # (frames, Z, Y, X, C)
    values = values[..., np.newaxis] if image.GetNumberOfComponentsPerPixel() == 1 else values
    findings = header.findings
    if _lists_values(reader, path):
        values, finding = pick_frame(values, policy)
        values, findings = values[..., np.newaxis], (*findings, finding)
    values = np.moveaxis(values[..., :3], -1, 0)  # (C, frames, Z, Y, X)
    if image.GetDimension() == 2:
        return Scan(compact(values), np.eye(4), replace(header, findings=findings))
    if image.GetDimension() == 4 and values.shape[1] > 1:
        values, finding = pick_frame(np.moveaxis(values, 1, -1), policy)
        findings += (finding,)
    elif image.GetDimension() == 4:
        values = values[:, 0]
    voxels = compact(values.transpose(0, 3, 2, 1))
    return Scan(voxels, _affine(reader), replace(header, findings=findings))


def _information(path: Path) -> SimpleITK.ImageFileReader:
    if lies_elsewhere(path):
        raise Unreadable("outside", "its header names a file outside of its folder; store the voxels beside the header")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _described(reader: SimpleITK.ImageFileReader, path: Path, policy: Policy) -> Header:
    size = tuple(int(edge) for edge in reader.GetSize())
    components = reader.GetNumberOfComponents()
    if _lists_values(reader, path):
        refuse_frames(components, policy)
        components = 1
    channels = {1: 1, 3: 3, 4: 4}.get(components)
    if channels is None:
        raise Unreadable("channels", f"{components} values per voxel; 1, 3 or 4 are supported")
    if not 2 <= len(size) <= 4:
        raise Unreadable("shape", f"{len(size)} axes; 2, 3 or 4 are supported")
    bits = 8 if "8-bit unsigned" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelIDValue()) else 16
    refuse_frames(size[3] if len(size) == 4 else 1, policy)
    refuse_size(size, policy)
    if len(size) == 2:
        return Header(size[::-1], channels, tuple(reader.GetSpacing())[::-1], bits, in_mm=states_size(path))
    assumed = geometry_not_stated(path, policy)
    return volume_header(size[:3], _affine(reader), bits, policy, channels=min(channels, 3), findings=assumed)


def _lists_values(reader: SimpleITK.ImageFileReader, path: Path) -> bool:
    """Tell whether several values of a voxel are times or measurements, not colours."""
    if reader.GetNumberOfComponents() == 1:
        return False
    kinds = header_fields(path).get("kinds", "").lower()
    if kinds:
        return "color" not in kinds
    return "8-bit unsigned" not in SimpleITK.GetPixelIDValueAsString(reader.GetPixelIDValue())


def _affine(reader: SimpleITK.ImageFileReader) -> np.ndarray:
    dimension = len(reader.GetSize())
    direction = np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(reader.GetSpacing()[:3])
    affine[:3, 3] = reader.GetOrigin()[:3]
    return np.asarray(LPS_TO_RAS @ affine)
