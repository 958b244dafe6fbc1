"""Remove the face from a head MRI or CT: fit the MNI152 brain to the scan and darken the voxels in front of it."""

from functools import cache
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.imaging.preparation.brain_fit import Floats, brain_template, fit_brain, refuse_implausible

MARGIN_MM = 8.0  # around the brain, for errors of the fit
# Limits of the face in MNI space:
BROW_MM = 0.0  # z; below the brows
BACK_MM = 4.0  # y; in front of the brain stem and the spine
CHIN_MM = -220.0  # z; above the lower end of the chin
ORBIT_MM = 24.0  # y; behind it are the temporal lobes, in front of it the orbits

Mask = NDArray[np.bool_]


def deface(voxels: NDArray[Any], affine: Floats) -> NDArray[Any]:
    """Set the face of a head scan to the scan's lowest value.

    Parameters
    ----------
    voxels : (1, X, Y, Z) uint8, int16, int32 or float32
        Axes as stored, in any orientation and any contrast.
    affine : (4, 4)
        Voxel index to RAS+ millimetres.

    Returns
    -------
    array of the shape and dtype of `voxels`
        The same input gives the same bytes.

    Raises
    ------
    NotAHead
        If the brain does not fit the scan.
    """
    fit = fit_brain(voxels[0], affine)
    refuse_implausible(fit, voxels.shape[1:], affine)
    face = face_mask(voxels.shape[1:], np.linalg.inv(fit.matrix) @ affine)
    defaced = voxels.copy()
    defaced[0, face] = voxels.min()
    return defaced


def face_mask(shape: tuple[int, ...], to_mni: Floats) -> Mask:
    """Mark the voxels in front of and below the brain in MNI space.

    The brain is grown by `MARGIN_MM`. A voxel belongs to the face if no brain lies further in front and lower than it
    in its sagittal plane, and if it is below the brows (z < `BROW_MM`), in front of the brain stem (y > `BACK_MM`) and
    not below the chin (z > `CHIN_MM`). Behind the orbits (y < `ORBIT_MM`) the temporal lobes count in every sagittal
    plane, to keep what lies between and beside them: the pituitary gland and the temples. Eyes, nose, mouth and chin
    are removed with the tissue between them; forehead, ears, neck and spine are kept.

    Parameters
    ----------
    shape : (X, Y, Z)
    to_mni : (4, 4)
        Voxel index to MNI152 millimetres.

    Returns
    -------
    (X, Y, Z) bool
    """
    corner, ceiling = _face_ceiling()
    face = np.zeros(shape, dtype=np.bool_)
    voxels = np.moveaxis(np.indices((1, *shape[1:]))[:, 0], 0, -1)
    plane = nib.affines.apply_affine(to_mni, voxels)
    for index in range(shape[0]):  # one plane at a time: coordinates take 24 bytes per voxel
        x, y, z = np.moveaxis(plane + index * to_mni[:3, 0], -1, 0)
        near = (y > BACK_MM) & (z > CHIN_MM) & (z < BROW_MM)
        column, line = (
            np.rint(at[near] - edge).astype(int).clip(0, size - 1)
            for at, edge, size in zip((x, y), corner, ceiling.shape, strict=True)
        )
        face[index][near] = z[near] < ceiling[column, line]
    return face


@cache
def _face_ceiling() -> tuple[Floats, Floats]:
    """Compute the upper edge of the face: z in MNI millimetres for each x and y, with the x and y of the corner."""
    template = brain_template()
    grown = ndimage.distance_transform_edt(template.values == 0) <= MARGIN_MM
    back = np.arange(grown.shape[1]) + template.affine[1, 3] < ORBIT_MM
    grown[:, back] |= grown[:, back].any(axis=0)
    lowest = np.where(grown.any(axis=2), grown.argmax(axis=2) + template.affine[2, 3], np.inf)
    return template.affine[:2, 3], np.minimum.accumulate(lowest[:, ::-1], axis=1)[:, ::-1]
