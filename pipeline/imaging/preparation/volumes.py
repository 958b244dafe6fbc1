"""Convert a volume to stored channels, one by one.

The volume is oriented without a copy; then pairs of slices are scaled and interpolated, and two small matrices resample
their rows and columns, so that no second volume is allocated. tests/imaging/preparation/monai_twin.py does the same
with MONAI's transforms, equal within one grey level.
"""

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from pipeline.imaging.geometry import Geometry, Window
from pipeline.imaging.preparation.intensity import grey, limits, otsu_threshold, scaled, without_padding
from pipeline.imaging.preparation.placement import Affine, Channels, Placement, Prepared
from pipeline.imaging.preparation.region import Region, box_around
from pipeline.imaging.reading.scan import Scan

Floats = NDArray[np.float32]
Places = NDArray[np.float64]
Marks = NDArray[np.bool_]

ORTHOGONAL = 1e-3  # largest cosine between axes that counts as a right angle


@dataclass(frozen=True)
class Axis:
    """Map the points of one axis of the stored grid to the scan's axis.

    Attributes
    ----------
    start, step : float
        Point i lies at voxel start + step * i of the scan.
    inside : slice
        Points inside the scan; the others are black.
    size : int
        Number of voxels of the scan.
    points : int
        Number of points of the stored grid.
    """

    start: float
    step: float
    inside: slice
    size: int
    points: int

    def places(self) -> Places:
        """Find the places of the points inside, in voxels of the scan."""
        return np.asarray(np.clip(self.start + self.step * np.arange(self.points)[self.inside], 0, self.size - 1))

    def neighbours(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Find the two voxels around each point inside, and the weight of the upper one."""
        places = self.places()
        lower = np.minimum(places.astype(np.intp), max(self.size - 2, 0))
        return lower, np.minimum(lower + 1, self.size - 1), (places - lower).astype(np.float32)

    def matrix(self) -> tuple[Floats, slice]:
        """Express the interpolation as a (points, voxels) matrix; return it with the range of voxels it needs."""
        lower, upper, weight = self.neighbours()
        weights = np.zeros((self.points, self.size), dtype=np.float32)
        rows = np.arange(self.points)[self.inside]
        weights[rows, lower] += 1 - weight
        weights[rows, upper] += weight
        needed = slice(int(lower.min()), int(upper.max()) + 1)
        return weights[:, needed], needed


def prepare_volume(scan: Scan, geometry: Geometry, region: Region | None = None) -> Prepared:
    """Convert a volume to stored channels: the whole volume, its foreground, or the box around the region."""
    voxels, affine, to_file = _straight(grey(scan.voxels), scan.affine)
    orientation = nib.io_orientation(affine)
    ras = nib.orientations.apply_orientation(voxels, orientation)
    box = foreground_box(ras) if geometry.crop == "foreground" else [slice(0, size) for size in ras.shape]
    windows = limits(without_padding(ras[tuple(box)], scan.background), geometry.intensity)
    inverse = nib.orientations.inv_ornt_aff(orientation, voxels.shape)
    zooms = nib.affines.voxel_sizes(affine @ inverse)
    inside = _turned(region.inside, to_file, voxels.shape, orientation) if region else None
    if region and region.crops and inside is not None and inside.any():
        box = box_around(inside, region.margin_mm, tuple(zooms))
    sizes = (geometry.image_size, geometry.image_size, geometry.depth)
    spacing = geometry.spacing or (1.0, 1.0, 1.0)
    axes = [
        stored_axis(points, side.stop - side.start, zoom, millimetres)
        for points, side, zoom, millimetres in zip(sizes, box, zooms, spacing, strict=True)
    ]
    marked = inside[tuple(box)] if inside is not None and geometry.mask_channel else None
    channels = _resampled(ras[tuple(box)], axes, windows, marked)
    ras_index = _from_slices(axes, [side.start for side in box])
    return Prepared(channels, Placement(scan.voxels.shape[1:], scan.affine, to_file @ inverse @ ras_index))


def stored_axis(points: int, size: int, zoom: float, spacing: float) -> Axis:
    """Place the stored grid on an axis of a scan, as MONAI's Spacing and ResizeWithPadOrCrop do.

    Parameters
    ----------
    points : int
        Number of points of the stored grid.
    size : int
        Number of voxels of the scan.
    zoom, spacing : float
        Millimetres between voxels and between points.
    """
    available = int(np.round((size - 1) * zoom / spacing + 1))
    first = available // 2 - points // 2 if available > points else -((points - available) // 2)
    step = spacing / zoom
    begin = max(-first, 0)
    inside = slice(begin, begin + min(available, points))
    return Axis(start=first * step, step=step, inside=inside, size=size, points=points)


def _turned(inside: Marks, to_file: Affine, shape: tuple[int, ...], orientation: NDArray[Any]) -> Marks:
    """Straighten and orient a mask as its scan, by nearest neighbour."""
    if not np.array_equal(to_file, np.eye(4)):
        inside = affine_transform(
            inside.astype(np.uint8), to_file[:3, :3], to_file[:3, 3], output_shape=shape, order=0, mode="grid-constant"
        ).astype(bool)
    return np.asarray(nib.orientations.apply_orientation(inside, orientation), dtype=bool)


def _resampled(
    volume: NDArray[Any], axes: list[Axis], windows: tuple[Window, ...], marked: Marks | None = None
) -> Channels:
    """Compute the stored channels one by one, from feet to head, front up and right side on the left.

    With `marked` voxels, these follow the windows of each slice as a channel of 0 and 255.
    """
    across, needed_x = axes[0].matrix()
    along, needed_y = axes[1].matrix()
    to_columns, to_rows = np.ascontiguousarray(across[::-1].T), np.ascontiguousarray(along[::-1])
    lower, upper, weights = axes[2].neighbours()
    count = len(windows) + (marked is not None)
    channels = np.zeros((axes[2].points, count, axes[1].points, axes[0].points), dtype=np.uint8)
    needed = volume[needed_x, needed_y]
    for place, (below, above, weight) in enumerate(zip(lower, upper, weights, strict=True), axes[2].inside.start):
        for number, window in enumerate(windows):
            mixed = scaled(needed[:, :, below].T, window)
            if weight > 0:
                mixed += weight * (scaled(needed[:, :, above].T, window) - mixed)
            channels[place, number] = np.rint(to_rows @ mixed @ to_columns)
    if marked is not None:
        channels[:, -1] = 255 * _nearest(marked, axes)
    return channels.reshape(-1, axes[1].points, axes[0].points)


def _nearest(marked: Marks, axes: list[Axis]) -> Marks:
    """Bring marked voxels to the stored grid by nearest neighbour, (slices, rows, columns)."""
    found = np.zeros([axis.points for axis in axes], dtype=bool)
    picked = [np.rint(axis.places()).astype(np.intp) for axis in axes]
    found[tuple(axis.inside for axis in axes)] = marked[np.ix_(*picked)]
    return np.asarray(found[::-1, ::-1].transpose(2, 1, 0))


def _from_slices(axes: list[Axis], corner: list[int]) -> Affine:
    """Compute the matrix from (slice, row, column) of the stored slices to the voxel of the oriented scan."""
    x, y, z = axes
    mapping = np.zeros((4, 4))
    mapping[0, 2], mapping[0, 3] = -x.step, corner[0] + x.start + x.step * (x.points - 1)
    mapping[1, 1], mapping[1, 3] = -y.step, corner[1] + y.start + y.step * (y.points - 1)
    mapping[2, 0], mapping[2, 3] = z.step, corner[2] + z.start
    mapping[3, 3] = 1
    return mapping


def foreground_box(volume: NDArray[Any]) -> list[slice]:
    """Find the smallest box around all voxels above Otsu's threshold."""
    inside = volume > otsu_threshold(volume)
    box = []
    for axis in range(3):
        filled = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return box


def _straight(voxels: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine, Affine]:
    """Resample a volume whose axes are not at right angles (a tilted gantry); return others unchanged.

    Returns
    -------
    voxels, affine, to_file
        `to_file` maps a voxel index of the result to one of the file.
    """
    zooms = nib.affines.voxel_sizes(affine)
    directions = affine[:3, :3] / zooms
    if np.abs(directions.T @ directions - np.eye(3)).max() < ORTHOGONAL:
        return voxels, affine, np.eye(4)
    normal = np.cross(directions[:, 0], directions[:, 1])
    normal *= np.sign(normal @ directions[:, 2])
    zooms[2] *= abs(normal @ directions[:, 2])
    upright = np.eye(4)
    upright[:3, :3] = np.stack([directions[:, 0], directions[:, 1], normal], axis=1) * zooms
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T * 1.0
    corners[:3] *= np.array(voxels.shape)[:, None] - 1
    upright[:3, 3] = affine[:3, 3]
    reach = (np.linalg.inv(upright) @ affine @ corners)[:3].round(6)
    upright[:3, 3] = (upright @ [*np.floor(reach.min(axis=1)), 1])[:3]
    shape = tuple((np.ceil(reach.max(axis=1)) - np.floor(reach.min(axis=1))).astype(int) + 1)
    to_file = np.linalg.inv(affine) @ upright
    moved = affine_transform(
        voxels, to_file[:3, :3], to_file[:3, 3], output_shape=shape, order=1, cval=float(voxels.min())
    )
    return moved, upright, to_file
