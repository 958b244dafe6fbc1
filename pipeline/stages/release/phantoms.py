"""Simulate the phantoms that `verify` scores: two heads, one of them with lesions."""

from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.stages.cohort.simulation.recipe import Recipe, Site
from pipeline.stages.cohort.simulation.scan import Job, simulate

SCANNER = Site(
    patients={},
    lesion_share=0.5,
    voxel_mm=(3.0, 3.0, 5.0),  # a few hundred kilobytes
    orientation="LPS",  # not the orientation of prepared scans, so that reorientation is tested, too
    tilt_deg=5,
    csf=0.3,
    grey=0.7,
    white=1.0,
    scalp=0.8,
    bias=0.2,
    noise=0.03,
    full_scale=1000,
    dtype="int16",
)
RECIPE = Recipe(
    seed=9,
    classes=("control", "lesion"),
    lesions=(6, 6),
    radius_mm=(8.0, 12.0),
    darkness=(0.5, 0.8),
    second_scan=0,
    age_years=((50, 10), (50, 10)),
    sites={"phantom": SCANNER},
)
LESIONS = {"phantom_1": False, "phantom_2": True}


def write_phantoms(folder: Path, kind: Literal["volume", "image"]) -> list[Path]:
    """Write the phantoms as files of the kind that the model takes; every call writes the same bytes.

    Parameters
    ----------
    folder : Path
        An existing folder.
    kind : {"volume", "image"}
        NIfTI heads, or the middle slice of each as an RGB image of 8 bits.

    Returns
    -------
    list of Path
    """
    files = []
    for number, (name, lesion) in enumerate(LESIONS.items()):
        head = simulate(
            Job(recipe=RECIPE, site="phantom", patient=number, session=1, lesion=lesion, split="", file=name)
        )
        if kind == "volume":
            files.append(folder / f"{name}.nii.gz")
            nib.save(head, files[-1])
        else:
            files.append(folder / f"{name}.png")
            Image.fromarray(as_image(np.asarray(head.dataobj))).save(files[-1])
    return files


def as_image(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """Make an RGB image (Y, X, 3), 0 to 255, of three neighbouring slices in the middle of a volume (X, Y, Z)."""
    middle = voxels.shape[2] // 2
    slices = voxels[:, :, middle - 1 : middle + 2].astype(np.float64)
    return np.asarray((slices / slices.max() * 255).swapaxes(0, 1).round(), dtype=np.uint8)
