"""Simulate a multi-site cohort of head MRI from an anatomical template, in the file formats of hospitals.

The template is the set of MNI152 T1, grey- and white-matter maps (ICBM 2009a nonlinear symmetric, Fonov et al. 2011)
in nilearn. Each patient is a smooth random deformation of the template. Each site has its own contrast, bias field,
noise level, voxel size and orientation. Lesions are hypointense, soft-edged patches in the white matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.ndimage import map_coordinates

from pipeline.errors import UserError
from pipeline.imaging.tables.cohort_table import MASK
from pipeline.yaml_files import read_yaml

RECIPE = "recipe.yaml"
FIELD_OF_VIEW_MM = (176.0, 216.0, 170.0)
CENTRE_MM = (0.0, -18.0, 8.0)

Floats = NDArray[np.float64]


class Site(BaseModel):
    """Describe the scanner of one hospital; data/demo/recipe.yaml explains the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    patients: dict[Literal["development", "test", "unlabelled"], int]
    lesion_share: float
    voxel_mm: tuple[float, float, float]
    orientation: str
    tilt_deg: float
    csf: float
    grey: float
    white: float
    scalp: float
    bias: float
    noise: float
    full_scale: float
    dtype: Literal["int16", "uint16", "float32"]


class Recipe(BaseModel):
    """Describe a cohort to simulate."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int
    classes: tuple[str, str]
    lesions: tuple[int, int]
    radius_mm: tuple[float, float]
    darkness: tuple[float, float]
    second_scan: float
    age_years: tuple[tuple[float, float], tuple[float, float]]
    masks: Literal["none", "lesions", "places"] = "none"
    label: Literal["class", "lesion_volume"] = "class"  # lesion_volume: in ml, for `cohort.task: regression`
    sites: dict[str, Site]


@dataclass(frozen=True)
class Job:
    """Describe one scan to simulate: site, patient, session, lesion, split and file."""

    recipe: Recipe
    site: str
    patient: int
    session: int
    lesion: bool
    split: str
    file: str

    @property
    def row(self) -> dict[str, str]:
        """Return the row of the scan in cohort.csv."""
        sex, age = sex_and_age(self)
        return {
            "case_id": Path(self.file).name.removesuffix(".nii.gz"),
            "patient_id": f"{self.site}-{self.patient:03d}",
            "image": self.file,
            "label": "" if self.split == "unlabelled" else label_of(self),
            "site": self.site,
            "split": self.split,
            "sex": sex,
            "age": age,
            **({MASK: mask_file(self.file)} if self.recipe.masks != "none" else {}),
        }


def mask_file(file: str) -> str:
    """Name the mask of a simulated scan."""
    return f"{file.removesuffix('.nii.gz')}_mask.nii.gz"


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid in the atlas: centre and radii (3,) in mm, and the share of signal that it removes."""

    centre: Floats
    radii: Floats
    darkness: float


def is_recipe(folder: Path) -> bool:
    """Return whether a cohort folder holds a recipe instead of scans."""
    return (folder / RECIPE).is_file()


def read_recipe(folder: Path) -> Recipe:
    """Read `folder/recipe.yaml`.

    Raises
    ------
    UserError
        If it is not YAML, a key is unknown or a value is invalid.
    """
    file = folder / RECIPE
    try:
        return Recipe.model_validate(read_yaml(file))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in error.errors())
        raise UserError(f"{file}: {said}; see data/demo/recipe.yaml") from error


def plan_scans(recipe: Recipe) -> list[Job]:
    """List the scans of a recipe, with the site's share of lesions in each split."""
    jobs = []
    for name, site in recipe.sites.items():
        number = 0
        for split, count in site.patients.items():
            rng = np.random.default_rng(_seed(recipe.seed, name, split))
            lesions = rng.permutation(np.arange(count) < round(count * site.lesion_share))
            twice = rng.random(count) < recipe.second_scan
            for lesion, again in zip(lesions, twice, strict=True):
                number += 1
                for session in range(1, 2 + int(again)):
                    file = f"{name}/sub-{number:03d}/ses-{session}/{name}_sub-{number:03d}_ses-{session}_T1w.nii.gz"
                    jobs.append(Job(recipe, name, number, session, lesion=bool(lesion), split=split, file=file))
    return jobs


def sex_and_age(job: Job) -> tuple[str, str]:
    """Draw a patient's sex, and the age in whole years from the distribution of the class, clipped to 18 to 89."""
    rng = np.random.default_rng(_seed(job.recipe.seed, job.site, "sex and age", job.patient))
    sex = rng.choice(["F", "M"])
    age = np.clip(rng.normal(*job.recipe.age_years[job.lesion]), 18, 89)
    return str(sex), f"{age:.0f}"


def label_of(job: Job) -> str:
    """Give the class of a patient, or, if the recipe asks for it, the volume of all lesions in ml."""
    if job.recipe.label == "class":
        return job.recipe.classes[job.lesion]
    return f"{lesion_volume(job):.3f}"


def lesion_volume(job: Job) -> float:
    """Sum the volumes of a patient's lesions in ml from the draws of `simulate`; 0 without any."""
    if not job.lesion:
        return 0.0
    person = np.random.default_rng(_seed(job.recipe.seed, job.site, "person", job.patient))
    matrix, _ = _head(person)
    radii = np.array([lesion.radii for lesion in _drawn_lesions(job.recipe, person)])
    in_atlas = 4 / 3 * np.pi * radii.prod(axis=1).sum()
    return float(in_atlas / abs(np.linalg.det(matrix)) / 1000)


def scan_shape(site: Site) -> tuple[int, ...]:
    """Compute the number of voxels of a site from left to right, back to front and feet to head."""
    return tuple(round(extent / size) for extent, size in zip(FIELD_OF_VIEW_MM, site.voxel_mm, strict=True))


def simulate(job: Job) -> Any:
    """Simulate one scan; equal jobs give equal voxels.

    Returns
    -------
    nibabel.Nifti1Image
        Scan in the voxel size, orientation and number format of the site.
    """
    site = job.recipe.sites[job.site]
    person = np.random.default_rng(_seed(job.recipe.seed, job.site, "person", job.patient))
    visit = np.random.default_rng(_seed(job.recipe.seed, job.site, "visit", job.patient, job.session))
    affine = _scanner_grid(site, visit)
    shape = scan_shape(site)
    atlas_mm = _to_atlas(_world(shape, affine), person)
    signal = _tissue_signal(atlas_mm, site)
    if job.lesion:
        signal *= 1 - _lesions(atlas_mm, job.recipe, person)
    shaded = signal * _shading(shape, site.bias, visit)
    noisy = np.hypot(shaded + visit.normal(0, site.noise, shape), visit.normal(0, site.noise, shape))
    voxels = noisy * site.full_scale
    return _stored(nib.nifti1.Nifti1Image(voxels.astype(site.dtype), affine), site)


def write_scan(job: Job, folder: Path) -> None:
    """Simulate one scan, and the mask of its lesions if the recipe asks for masks, and write them below `folder`."""
    target = folder / job.file
    target.parent.mkdir(parents=True, exist_ok=True)
    nib.save(simulate(job), target)
    if job.recipe.masks != "none":
        nib.save(lesion_mask(job), folder / mask_file(job.file))


def lesion_mask(job: Job) -> Any:
    """Mark where the lesions of a scan are: where they take more than half of the least darkness of the recipe.

    In a control nothing is marked, or, with `masks: places`, places that are drawn as lesions are but look healthy, so
    that the mask by itself does not tell the class. The draws are those of `simulate`: mask and scan have one grid.

    Returns
    -------
    nibabel.Nifti1Image
        1 inside of lesions, uint8, in voxel size and orientation of the scan.
    """
    site = job.recipe.sites[job.site]
    person = np.random.default_rng(_seed(job.recipe.seed, job.site, "person", job.patient))
    visit = np.random.default_rng(_seed(job.recipe.seed, job.site, "visit", job.patient, job.session))
    affine, shape = _scanner_grid(site, visit), scan_shape(site)
    atlas_mm, inside = _to_atlas(_world(shape, affine), person), np.zeros(shape, dtype=np.uint8)
    if job.lesion or job.recipe.masks == "places":
        inside[_lesions(atlas_mm, job.recipe, person) > job.recipe.darkness[0] / 2] = 1
    return _stored(nib.nifti1.Nifti1Image(inside, affine), site)


def _stored(image: Any, site: Site) -> Any:
    """Turn the axes of an image to the orientation of a site."""
    wanted = nib.orientations.axcodes2ornt(site.orientation)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))


@cache
def _atlas() -> tuple[Floats, Floats]:
    """Load the three maps as (3, X, Y, Z) in [0, 1] (T1, grey, white) and the inverse of their affine."""
    import nilearn.datasets

    folder = Path(nilearn.datasets.__file__).parent / "data"
    maps: list[Any] = [
        nib.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") for name in ("t1", "gm", "wm")
    ]
    return np.stack([image.get_fdata() / 255 for image in maps]), np.linalg.inv(maps[0].affine)


def _scanner_grid(site: Site, visit: np.random.Generator) -> Floats:
    tilt = np.deg2rad(visit.normal(0, site.tilt_deg / 2, 3).clip(-site.tilt_deg, site.tilt_deg))
    affine = np.eye(4)
    affine[:3, :3] = _rotation(tilt) @ np.diag(site.voxel_mm)
    affine[:3, 3] = (
        np.array(CENTRE_MM)
        + visit.normal(0, 3, 3)
        - affine[:3, :3] @ (np.array(FIELD_OF_VIEW_MM) / np.array(site.voxel_mm) / 2)
    )
    return affine


def _world(shape: tuple[int, ...], affine: Floats) -> Floats:
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float64)
    return np.tensordot(affine[:3, :3], grid, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)


def _to_atlas(world_mm: Floats, person: np.random.Generator) -> Floats:
    """Map world coordinates (mm) to the atlas with a random scaling, rotation and smooth warp per person."""
    matrix, bumps = _head(person)
    relative = (world_mm + 110) / 220 * 5
    warp = np.stack([map_coordinates(bump, relative, order=2, mode="nearest", prefilter=False) for bump in bumps])
    atlas_mm: Floats = np.tensordot(matrix, world_mm, axes=1) + warp
    return atlas_mm


def _head(person: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the linear map (3, 3) from a person's head to the atlas, and the bumps (3, 6, 6, 6) in mm of its warp."""
    matrix = _rotation(person.normal(0, 0.03, 3)) @ np.diag(1 + person.normal(0, 0.04, 3))
    return matrix, person.normal(0, 4.0, (3, 6, 6, 6))


def _tissue_signal(atlas_mm: Floats, site: Site) -> Floats:
    maps, inverse = _atlas()
    index = np.tensordot(inverse[:3, :3], atlas_mm, axes=1) + inverse[:3, 3].reshape(3, 1, 1, 1)
    t1, grey, white = (map_coordinates(tissue, index, order=1) for tissue in maps)
    rest = np.clip(1 - grey - white, 0, 1)
    brain = np.clip((grey + white) * 4, 0, 1)
    fluid = site.csf * np.minimum(t1 * 4, 1)
    signal: Floats = site.grey * grey + site.white * white + rest * (brain * fluid + (1 - brain) * site.scalp * t1)
    return signal


def _lesions(atlas_mm: Floats, recipe: Recipe, person: np.random.Generator) -> Floats:
    """Draw the fraction of signal that soft-edged ellipsoids centred in deep white matter remove."""
    taken = np.zeros(atlas_mm.shape[1:])
    for lesion in _drawn_lesions(recipe, person):
        offset = (atlas_mm - lesion.centre.reshape(3, 1, 1, 1)) / lesion.radii.reshape(3, 1, 1, 1)
        darkness = lesion.darkness / (1 + np.exp((np.sqrt((offset**2).sum(axis=0)) - 1) * 8))
        taken = np.maximum(taken, darkness)
    return taken


def _drawn_lesions(recipe: Recipe, person: np.random.Generator) -> Iterator[Lesion]:
    """Draw the lesions of a person, one after the other."""
    maps, inverse = _atlas()
    deep = np.argwhere(maps[2][:, :, 60:130] > 0.9) + np.array([0, 0, 60])
    for _ in range(person.integers(recipe.lesions[0], recipe.lesions[1] + 1)):
        centre = (np.linalg.inv(inverse) @ [*person.choice(deep), 1])[:3]
        radii = person.uniform(*recipe.radius_mm) * person.uniform(0.7, 1.3, 3)
        yield Lesion(centre, radii, person.uniform(*recipe.darkness))


def _shading(shape: tuple[int, ...], strength: float, visit: np.random.Generator) -> Floats:
    """Draw a smooth positive bias field, as of receive coils: the exponential of a random quadratic polynomial."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    terms = [*axes, *(a * b for i, a in enumerate(axes) for b in axes[i:])]
    weights = visit.normal(0, strength / 2, len(terms))
    field: Floats = np.exp(sum(weight * term for weight, term in zip(weights, terms, strict=True)))
    return field


def _rotation(angles: Floats) -> Floats:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def _seed(seed: int, *names: object) -> list[int]:
    return [seed, *"/".join(map(str, names)).encode()]
