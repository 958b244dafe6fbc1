"""Slices of a scan as a viewer shows them, with a map on the same grid."""

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.reading.scan import Scan

Floats = NDArray[np.float32]
AXIAL = nib.orientations.axcodes2ornt(("L", "P", "S"))  # columns, rows and slices of an axial DICOM series


@dataclass(frozen=True)
class Slices:
    """The slices of a scan; an image has one.

    Attributes
    ----------
    grey : (slices, rows, columns), or (1, rows, columns, 3) uint8 for an image in colour
        In the scan's own units.
    saliency : (slices, rows, columns) float32 or None
        From 0 to 1.
    spacing : (float, float)
        Distance of rows and of columns; in millimetres for a volume.
    range : (float, float)
        Values that are shown black and white unless another window is chosen.
    """

    grey: NDArray[Any]
    saliency: Floats | None
    spacing: tuple[float, float]
    range: tuple[float, float]

    @property
    def in_colour(self) -> bool:
        """Whether it is an image in colour."""
        return self.grey.ndim == 4

    def shown(self, number: int) -> NDArray[np.uint8]:
        """Render a slice, (rows, columns, 3) uint8, in the window `range`."""
        if self.in_colour:
            return np.asarray(self.grey[number], dtype=np.uint8)
        low, high = self.range
        levels = (self.grey[number].astype(np.float32) - low) / max(high - low, 1e-6) * 255
        return np.repeat(levels.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def slices_shown(scan: Scan, saliency: Floats | None = None, *, as_stored: bool) -> Slices:
    """Arrange a scan and its map in slices.

    Parameters
    ----------
    scan : Scan
    saliency : array of the scan's shape, (1, rows, columns) for an image, or None
    as_stored : bool
        Whether the slices of a volume are those along its third axis, as in a DICOM series. Otherwise they are axial,
        from feet to head, with the front up and the right side on the left.
    """
    if not scan.header.is_volume:
        return Slices(_image(scan.voxels), saliency, _two(scan.header.spacing), _range(scan))
    values = scan.voxels[0] if len(scan.voxels) == 1 else scan.voxels.mean(axis=0)
    affine = scan.affine
    if not as_stored:
        turn = nib.orientations.ornt_transform(nib.io_orientation(affine), AXIAL)
        values = nib.apply_orientation(values, turn)
        saliency = None if saliency is None else nib.apply_orientation(saliency, turn)
        affine = affine @ nib.orientations.inv_ornt_aff(turn, scan.voxels.shape[1:])
    sizes = nib.affines.voxel_sizes(affine)
    turned = None if saliency is None else saliency.transpose(2, 1, 0)
    return Slices(values.transpose(2, 1, 0), turned, (float(sizes[1]), float(sizes[0])), _range(scan))


def _image(voxels: NDArray[Any]) -> NDArray[Any]:
    if len(voxels) < 3:
        return voxels[:1]
    colours = np.moveaxis(voxels[:3], 0, -1)[None]
    if colours.dtype == np.uint8:
        return colours
    return np.asarray(255.0 * colours / max(float(colours.max()), 1.0)).astype(np.uint8)


def _two(spacing: tuple[float, ...]) -> tuple[float, float]:
    return (spacing[0], spacing[1]) if len(spacing) > 1 else (1.0, 1.0)


def _range(scan: Scan) -> tuple[float, float]:
    """Find the values of the darkest and the brightest percent of the voxels inside."""
    inside = scan.voxels if scan.background is None else scan.voxels[scan.voxels != scan.background]
    low, high = np.percentile(inside.ravel()[:: max(inside.size // 10**6, 1)], (1, 99))
    return float(low), float(high) if high > low else float(low) + 1.0
