"""Read a mask: whole label numbers on a grid, from NIfTI, NRRD, MetaImage, PNG, TIFF, or a DICOM segmentation."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from pipeline.imaging.reading.dicom import is_dicom
from pipeline.imaging.reading.scan import Finding, Policy, Scan, Unreadable, refuse_size
from pipeline.imaging.reading.volumes import read_stored, read_with

SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # SEG and label map storage
LOSSY = (".jpg", ".jpeg")
LABELS_CURE = "save it with label numbers (0 outside, 1, 2, ...) and without interpolation"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Mask:
    """Hold the label numbers of a mask.

    Attributes
    ----------
    labels : (X, Y, Z) of a volume, (rows, columns) of an image, integers
        0 outside.
    affine : (4, 4) float64
        Voxel index to RAS+ millimetres; the identity for an image.
    overlapping : tuple of arrays like `labels`
        Further label numbers of the same voxels, where segments overlap.
    """

    labels: NDArray[Any]
    affine: NDArray[np.float64]
    overlapping: tuple[NDArray[Any], ...] = ()

    def inside(self, wanted: Collection[int] = ()) -> NDArray[np.bool_]:
        """Mark the voxels with one of the wanted label numbers, or with any but 0."""
        layers = (self.labels, *self.overlapping)
        marked = [np.isin(one, list(wanted)) if wanted else one != 0 for one in layers]
        return np.asarray(np.any(marked, axis=0))


def read_mask(path: Path, policy: Policy) -> Mask:
    """Read a mask.

    Parameters
    ----------
    path : Path
        Volume, image, or DICOM segmentation, whose segments have their numbers as labels.
    policy : Policy
        Limits of size and the choice of affines, as for a scan.

    Raises
    ------
    Unreadable
        If the file cannot be read, or holds values that are no whole numbers, colours, or JPEG.
    """
    if path.name.lower().endswith(LOSSY):
        raise Unreadable("mask format", f"JPEG changes label numbers; {LABELS_CURE}, e.g. as PNG")
    if path.is_file() and read_with(path, lambda: is_dicom(path) and _is_segmentation(path)):
        found: Mask = read_with(path, lambda: _of_segmentation(path, policy))
        return found
    return _of_scan(read_stored(path, policy))


def about_mask(finding: Finding) -> tuple[str, str, str]:
    """Say in check, detail and parameter of a finding that it is about the mask, not the scan."""
    if finding.check.startswith("mask"):
        return finding.check, finding.detail, finding.parameter
    return f"mask {finding.check}", f"its mask: {finding.detail}", finding.parameter


def _of_scan(scan: Scan) -> Mask:
    values = scan.voxels[:3]
    if len(values) > 1 and not (values == values[:1]).all():
        raise Unreadable("mask values", f"its channels differ, so that it holds colours; {LABELS_CURE}")
    labels = values[0]
    if labels.dtype.kind == "f":
        odd = labels[~(np.isfinite(labels) & (labels == np.rint(labels)))]
        if odd.size:
            raise Unreadable("mask values", f"it holds {odd[0]:g}, but labels are whole numbers; {LABELS_CURE}")
        labels = labels.astype(np.int32)
    return Mask(labels, scan.affine)


def _is_segmentation(path: Path) -> bool:
    return str(pydicom.dcmread(path, stop_before_pixels=True).get("SOPClassUID", "")) in SEGMENTATION


def _of_segmentation(path: Path, policy: Policy) -> Mask:
    """Read the segments of a DICOM segmentation as one volume of their numbers."""
    try:
        import highdicom
    except ImportError as error:
        raise Unreadable(
            "mask format", "it is a DICOM segmentation, for which pip install 'medadapt[clinic]' is needed"
        ) from error
    segmentation = highdicom.seg.segread(path)
    size = (segmentation.Columns, segmentation.Rows, int(segmentation.NumberOfFrames))
    refuse_size(tuple(map(int, size)), policy)
    try:
        volume = segmentation.get_volume(combine_segments=True)
        layers = [np.asarray(volume.array, dtype=np.int32)]
    except RuntimeError:  # segments overlap; the failed query keeps the tables of highdicom locked
        layers, volume = _layers_of(highdicom.seg.segread(path))
    return Mask(layers[0], LPS_TO_RAS @ np.asarray(volume.affine, dtype=np.float64), tuple(layers[1:]))


def _layers_of(segmentation: Any) -> tuple[list[NDArray[Any]], Any]:
    """Spread overlapping segments over as few volumes as they come, each of which holds no two at a voxel."""
    layers: list[NDArray[Any]] = []
    for number in segmentation.segment_numbers:
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True)
        marked = np.asarray(volume.array) != 0
        layer = next((one for one in layers if not one[marked].any()), None)
        if layer is None:
            layer = np.zeros(marked.shape, dtype=np.int32)
            layers.append(layer)
        layer[marked] = number
    return layers, volume
