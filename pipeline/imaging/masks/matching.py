"""Check that a mask belongs to its scan, and bring it to the scan's grid by nearest neighbour."""

from collections.abc import Collection
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.masks.reading import Mask
from pipeline.imaging.reading.scan import Finding, Scan, Unreadable

Affine = NDArray[np.float64]
Marks = NDArray[np.bool_]

CHECK = "mask of another scan"
APART = 0.5  # voxels by which corners of the same grid may lie apart
COMMON = 0.5  # share of the smaller field of view that both must have in common
TINY = 8  # voxels; a smaller mask has hardly a shape


def on_scan(mask: Mask, scan: Scan, wanted: Collection[int] = ()) -> Marks:
    """Mark the voxels of a scan that its mask labels.

    A mask on the grid of the scan is taken as it is, in whatever order its axes are stored. One on another grid of the
    same space, such as a finer or an oblique one, is resampled by nearest neighbour.

    Parameters
    ----------
    mask : Mask
    scan : Scan
    wanted : collection of int
        Label numbers that count; none for all but 0.

    Returns
    -------
    array of the scan's shape without channels

    Raises
    ------
    Unreadable
        If the mask is of another scan: one of an image with other rows and columns; one whose grid has the scan's size
        and voxels but lies elsewhere; one whose field of view has little in common with that of the scan, or which
        marks voxels outside of it. Both affines are named.
    """
    from scipy.ndimage import affine_transform  # not above: few cohorts have masks

    inside, shape = mask.inside(wanted), scan.voxels.shape[1:]
    if len(shape) == 2 or inside.ndim == 2:
        if inside.shape != shape:
            raise Unreadable(CHECK, f"the mask has {_size(inside.shape)} pixels, but the scan has {_size(shape)}")
        return inside
    to_mask = np.linalg.inv(mask.affine) @ scan.affine
    if same := _on_same_grid(inside, to_mask, shape):
        return same[0]
    _refuse_elsewhere(inside, mask.affine, scan, to_mask)
    found = affine_transform(
        inside.astype(np.uint8), to_mask[:3, :3], to_mask[:3, 3], output_shape=shape, order=0, mode="grid-constant"
    )
    return np.asarray(found > 0)


def findings_of(inside: Marks, wanted: Collection[int] = ()) -> list[Finding]:
    """Tell of a mask that marks nothing or next to nothing on the grid of its scan."""
    count = int(inside.sum())
    if not count:
        which = f"with the labels {', '.join(map(str, wanted))} of cohort.mask_labels" if wanted else "but 0"
        return [Finding("mask empty", f"no voxel of the scan has a label {which}: it counts as no mask", "warned")]
    if count < TINY:
        return [Finding("mask tiny", f"{count} voxels of the scan are marked: it hardly has a shape", "warned")]
    return []


def _on_same_grid(inside: Marks, to_mask: Affine, shape: tuple[int, ...]) -> list[Marks]:
    """Exchange and turn the axes of a mask on the same grid; an empty list if it has another grid."""
    turned = np.rint(to_mask[:3, :3])
    if abs(abs(np.linalg.det(turned)) - 1) > 1e-6 or not (np.abs(turned).sum(axis=0) == 1).all():
        return []
    apart = np.abs(_mapped(shape, to_mask) - _mapped(shape, _whole(to_mask)))
    order = np.abs(turned).argmax(axis=0)
    if apart.max() > APART or tuple(np.array(inside.shape)[order]) != tuple(shape):
        return []
    corner = _whole(to_mask)[:3, 3]
    expected = np.where(turned.sum(axis=1) < 0, np.array(inside.shape) - 1, 0)
    if (corner != expected).any():
        return []
    flipped = inside[tuple(slice(None, None, int(sign)) for sign in turned.sum(axis=1))]
    return [flipped.transpose(order)]


def _whole(to_mask: Affine) -> Affine:
    """Round a mapping to whole steps."""
    return np.asarray(np.rint(to_mask))


def _refuse_elsewhere(inside: Marks, affine: Affine, scan: Scan, to_mask: Affine) -> None:
    shape = scan.voxels.shape[1:]
    sizes = [np.linalg.norm(one[:3, :3], axis=0) for one in (affine, scan.affine)]
    same_voxels = sorted(inside.shape) == sorted(shape) and np.allclose(np.sort(sizes[0]), np.sort(sizes[1]), rtol=0.01)
    turned = np.allclose(np.abs(to_mask[:3, :3]).max(axis=0), 1, atol=0.01)
    if same_voxels and turned:
        why = "it has the scan's number of voxels and their size, but lies elsewhere"
    elif _common(inside.shape, affine, shape, scan.affine) < COMMON:
        why = "the fields of view have little in common"
    elif outside := _outside(inside, to_mask, shape):
        why = f"{outside} of its {int(inside.sum())} marked voxels lie outside of the scan"
    else:
        return
    cure = "give the mask of this scan, or correct its header"
    raise Unreadable(CHECK, f"{why}; affine of the mask {_rows(affine)}, of the scan {_rows(scan.affine)}; {cure}")


def _outside(inside: Marks, to_mask: Affine, shape: tuple[int, ...]) -> int:
    """Count the marked voxels whose centre lies more than a voxel outside of the scan."""
    places = np.argwhere(inside)
    voxels = (np.c_[places, np.ones(len(places))] @ np.linalg.inv(to_mask).T)[:, :3]
    return int(((voxels < -1) | (voxels > np.array(shape))).any(axis=1).sum())


def _common(shape: tuple[int, ...], affine: Affine, of_scan: tuple[int, ...], scan_affine: Affine) -> float:
    """Compute the share of the smaller of two boxes around fields of view, along the world's axes, in the other one."""
    boxes = [_mapped(size, one) for size, one in ((shape, affine), (of_scan, scan_affine))]
    lows, highs = ([getattr(box, end)(axis=0) for box in boxes] for end in ("min", "max"))
    lengths = np.minimum(*highs) - np.maximum(*lows)
    smaller = min(float(np.prod(high - low)) for low, high in zip(lows, highs, strict=True))
    return float(np.prod(lengths.clip(0))) / smaller if smaller > 0 else 1.0


def _mapped(shape: tuple[int, ...], affine: Affine) -> NDArray[np.float64]:
    """Map the eight corners of a grid, (8, 3)."""
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in shape))], dtype=np.float64)
    return np.asarray((corners @ affine.T)[:, :3])


def _rows(affine: Affine) -> str:
    return "[" + "; ".join(" ".join(f"{value:.4g}" for value in row) for row in affine[:3]) + "]"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
