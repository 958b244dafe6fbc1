"""Heads of patients: random deformations of a template, with lesions in the white matter and the shading of a coil.

The template is the set of MNI152 T1, grey- and white-matter maps (ICBM 2009a nonlinear symmetric, Fonov et al. 2011)
in nilearn. Lesions are hypointense, soft-edged ellipsoids in the deep white matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from pipeline.stages.cohort.simulation.recipe import Recipe, Site

FIELD_OF_VIEW_MM = (176.0, 216.0, 170.0)
CENTRE_MM = (0.0, -18.0, 8.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid in the atlas: centre and radii (3,) in mm, and the share of signal that it removes."""

    centre: Floats
    radii: Floats
    darkness: float


def scanner_grid(site: Site, visit: np.random.Generator) -> Floats:
    """Draw the affine (4, 4) of a scan, tilted and moved a little."""
    tilt = np.deg2rad(visit.normal(0, site.tilt_deg / 2, 3).clip(-site.tilt_deg, site.tilt_deg))
    affine = np.eye(4)
    affine[:3, :3] = _rotation(tilt) @ np.diag(site.voxel_mm)
    affine[:3, 3] = (
        np.array(CENTRE_MM)
        + visit.normal(0, 3, 3)
        - affine[:3, :3] @ (np.array(FIELD_OF_VIEW_MM) / np.array(site.voxel_mm) / 2)
    )
    return affine


def world_of(shape: tuple[int, ...], affine: Floats) -> Floats:
    """Compute the world coordinates (3, X, Y, Z) of voxels in mm."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float64)
    return np.tensordot(affine[:3, :3], grid, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)


def to_atlas(world_mm: Floats, person: np.random.Generator) -> Floats:
    """Map world coordinates (mm) to the atlas with a random scaling, rotation and smooth warp per person."""
    matrix, bumps = drawn_head(person)
    relative = (world_mm + 110) / 220 * 5
    warp = np.stack([map_coordinates(bump, relative, order=2, mode="nearest", prefilter=False) for bump in bumps])
    atlas_mm: Floats = np.tensordot(matrix, world_mm, axes=1) + warp
    return atlas_mm


def drawn_head(person: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the linear map (3, 3) from a person's head to the atlas, and the bumps (3, 6, 6, 6) in mm of its warp."""
    matrix = _rotation(person.normal(0, 0.03, 3)) @ np.diag(1 + person.normal(0, 0.04, 3))
    return matrix, person.normal(0, 4.0, (3, 6, 6, 6))


def tissue_signal(atlas_mm: Floats, site: Site, lost: float = 0.0) -> Floats:
    """Mix the signals that a site gives to grey and white matter, fluid and scalp, at places in the atlas.

    A share `lost` of the grey and half of it of the white matter is replaced by fluid; below 0 there is more of them.
    """
    maps, inverse = _atlas()
    index = np.tensordot(inverse[:3, :3], atlas_mm, axes=1) + inverse[:3, 3].reshape(3, 1, 1, 1)
    t1, grey, white = (map_coordinates(tissue, index, order=1) for tissue in maps)
    rest = np.clip(1 - grey - white, 0, 1)
    brain = np.clip((grey + white) * 4, 0, 1)
    if lost:
        rest = rest + lost * (grey + white / 2)
        grey, white = grey * (1 - lost), white * (1 - lost / 2)
    fluid = site.csf * np.minimum(t1 * 4, 1)
    signal: Floats = site.grey * grey + site.white * white + rest * (brain * fluid + (1 - brain) * site.scalp * t1)
    return signal


def taken_by_lesions(atlas_mm: Floats, recipe: Recipe, person: np.random.Generator) -> Floats:
    """Draw the fraction of signal that soft-edged ellipsoids centred in deep white matter remove."""
    taken = np.zeros(atlas_mm.shape[1:])
    for lesion in drawn_lesions(recipe, person):
        offset = (atlas_mm - lesion.centre.reshape(3, 1, 1, 1)) / lesion.radii.reshape(3, 1, 1, 1)
        darkness = lesion.darkness / (1 + np.exp((np.sqrt((offset**2).sum(axis=0)) - 1) * 8))
        taken = np.maximum(taken, darkness)
    return taken


def drawn_lesions(recipe: Recipe, person: np.random.Generator) -> Iterator[Lesion]:
    """Draw the lesions of a person, one after the other."""
    deep, affine = _deep_white_matter()
    for _ in range(person.integers(recipe.lesions[0], recipe.lesions[1] + 1)):
        centre = (affine @ [*person.choice(deep), 1])[:3]
        radii = person.uniform(*recipe.radius_mm) * person.uniform(0.7, 1.3, 3)
        yield Lesion(centre, radii, person.uniform(*recipe.darkness))


def shading(shape: tuple[int, ...], strength: float, visit: np.random.Generator) -> Floats:
    """Draw a smooth positive bias field, as of receive coils: the exponential of a random quadratic polynomial."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    terms = [*axes, *(a * b for i, a in enumerate(axes) for b in axes[i:])]
    weights = visit.normal(0, strength / 2, len(terms))
    field: Floats = np.exp(sum(weight * term for weight, term in zip(weights, terms, strict=True)))
    return field


@cache
def _deep_white_matter() -> tuple[NDArray[np.int64], Floats]:
    """List the voxels (n, 3) of the atlas in which lesions are centred, with the affine (4, 4) from voxels to mm."""
    maps, inverse = _atlas()
    affine: Any = np.linalg.inv(inverse)
    return np.argwhere(maps[2][:, :, 60:130] > 0.9) + np.array([0, 0, 60]), affine


@cache
def _atlas() -> tuple[Floats, Floats]:
    """Load the three maps as (3, X, Y, Z) in [0, 1] (T1, grey, white) and the inverse of their affine."""
    import nilearn.datasets

    folder = Path(nilearn.datasets.__file__).parent / "data"
    maps: list[Any] = [
        nib.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") for name in ("t1", "gm", "wm")
    ]
    return np.stack([image.get_fdata() / 255 for image in maps]), np.linalg.inv(maps[0].affine)


def _rotation(angles: Floats) -> Floats:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
