"""Write maps of the network's attention as overlays of the scan for a viewer."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.placement import Placement

Floats = NDArray[np.float32]


def on_slices(maps: Floats, geometry: Geometry) -> Floats:
    """Repeat the map of each instance for its stored slices.

    Parameters
    ----------
    maps : (S, H, W)
        One map per instance, or per slice if the encoder sees the volume as a whole.
    geometry : Geometry

    Returns
    -------
    (D, H, W)
        D is `geometry.depth`, or 1 for an image, whose channels are colours.
    """
    depth = geometry.depth if geometry.kind == "volume" else 1
    return np.repeat(maps, depth // len(maps), axis=0)


def write_overlay(maps: Floats, placement: Placement, geometry: Geometry, stem: Path) -> Path:
    """Resample a map to the grid of its scan and write it: NIfTI for a volume, PNG for an image.

    Parameters
    ----------
    maps : (S, H, W)
        Values from 0 to 1.
    placement : Placement
        Placement of the scan; the file gets the scan's shape and, for a volume, its affine.
    geometry : Geometry
    stem : Path
        Path of the file without its ending.

    Returns
    -------
    Path
        The file; voxels are float32 from 0 to 1, pixels of an image 0 to 255.
    """
    overlay = placement.on_scan(on_slices(maps, geometry)).clip(0, 1)
    if geometry.kind == "image":
        file = stem.with_name(f"{stem.name}.png")
        Image.fromarray(np.rint(overlay[0] * 255).astype(np.uint8)).save(file)
        return file
    file = stem.with_name(f"{stem.name}.nii.gz")
    image = nib.Nifti1Image(overlay, placement.scan_affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, file)
    return file
