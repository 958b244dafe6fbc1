"""Maps of the network's attention as files that lie over the scan in a viewer."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.placement import Placement

Floats = NDArray[np.float32]


def on_slices(maps: Floats, geometry: Geometry) -> Floats:
    """Give every stored slice the map of the instance it belongs to.

    Parameters
    ----------
    maps : (S, H, W)
        Of each instance, or of each slice of a volume that is seen whole.
    geometry : Geometry

    Returns
    -------
    (D, H, W)
        D is `geometry.depth`; 1 of a image, whose channels are its colours.
    """
    depth = geometry.depth if geometry.kind == "volume" else 1
    return np.repeat(maps, depth // len(maps), axis=0)


def write_overlay(maps: Floats, placement: Placement, geometry: Geometry, stem: Path) -> Path:
    """Lay a map back over its scan's own grid and write it: NIfTI for a volume, PNG for a image.

    Parameters
    ----------
    maps : (S, H, W)
        From 0 to 1.
    placement : Placement
        Of the scan that the map is of: the file gets its shape and, if it is a volume, its affine.
    geometry : Geometry
    stem : Path
        The file without its ending.

    Returns
    -------
    Path
        Voxels are float32 from 0 to 1; pixels of a image 0 to 255.
    """
    laid = placement.on_scan(on_slices(maps, geometry)).clip(0, 1)
    if geometry.kind == "image":
        file = stem.with_name(f"{stem.name}.png")
        Image.fromarray(np.rint(laid[0] * 255).astype(np.uint8)).save(file)
        return file
    file = stem.with_name(f"{stem.name}.nii.gz")
    image = nib.Nifti1Image(laid, placement.scan_affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, file)
    return file
