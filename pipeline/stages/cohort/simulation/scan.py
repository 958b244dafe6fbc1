"""The scans of a simulated cohort: which there are, and the voxels of each.

Each patient is a smooth random deformation of the template. Each site has its own contrast, bias field, noise level,
voxel size and orientation.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline.imaging.tables.cohort_table import MASK, TIMES
from pipeline.stages.cohort.simulation.anatomy import (
    FIELD_OF_VIEW_MM,
    drawn_head,
    drawn_lesions,
    scanner_grid,
    shading,
    taken_by_lesions,
    tissue_signal,
    to_atlas,
    world_of,
)
from pipeline.stages.cohort.simulation.recipe import Recipe, Site
from pipeline.stages.cohort.simulation.times import censoring_rate, drawn_time

MIDDLE_AGE = 50  # years, of a brain as in the atlas


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
        about = {"sex": sex} | ({"age": age} if self.recipe.label != "age" else {})
        return {
            "case_id": Path(self.file).name.removesuffix(".nii.gz"),
            "patient_id": f"{self.site}-{self.patient:03d}",
            "image": self.file,
            **labels_of(self),
            "site": self.site,
            "split": self.split,
            **about,
            **({MASK: mask_file(self.file)} if self.recipe.masks != "none" else {}),
        }


def mask_file(file: str) -> str:
    """Name the mask of a simulated scan."""
    return f"{file.removesuffix('.nii.gz')}_mask.nii.gz"


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


def labels_of(job: Job) -> dict[str, str]:
    """Give the class of a patient, or what the recipe asks for: lesion volume (ml), age (years), or time and event."""
    kind, known = job.recipe.label, job.split != "unlabelled"
    if kind == "time":
        return dict(zip(TIMES, time_and_event(job) if known else ("", ""), strict=True))
    if kind == "class":
        label = job.recipe.classes[job.lesion]
    else:
        label = sex_and_age(job)[1] if kind == "age" else f"{lesion_volume(job):.3f}"
    return {"label": label if known else ""}


def time_and_event(job: Job) -> tuple[str, str]:
    """Draw the time of a patient with two decimals, and 1 for the event or 0 for censored."""
    rng = np.random.default_rng(_seed(job.recipe.seed, job.site, "time", job.patient))
    volumes, rate = _patients_of(job.recipe.model_dump_json())
    time, event = drawn_time(volumes[job.site, job.patient], rate, job.recipe.times, rng)
    return f"{max(time, 0.01):.2f}", str(int(event))


@cache
def _patients_of(recipe: str) -> tuple[dict[tuple[str, int], float], float]:
    """Give the volume of the lesions of each patient of a recipe, from its JSON, and the rate of censoring."""
    read = Recipe.model_validate_json(recipe)
    patients = {(job.site, job.patient): job for job in plan_scans(read)}
    volumes = {patient: lesion_volume(job) for patient, job in patients.items()}
    return volumes, censoring_rate(list(volumes.values()), read.times)


def lesion_volume(job: Job) -> float:
    """Sum the volumes of a patient's lesions in ml from the draws of `simulate`; 0 without any."""
    if not job.lesion:
        return 0.0
    person = np.random.default_rng(_seed(job.recipe.seed, job.site, "person", job.patient))
    matrix, _ = drawn_head(person)
    radii = np.array([lesion.radii for lesion in drawn_lesions(job.recipe, person)])
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
    affine = scanner_grid(site, visit)
    shape = scan_shape(site)
    atlas_mm = to_atlas(world_of(shape, affine), person)
    lost = job.recipe.ageing * (float(sex_and_age(job)[1]) - MIDDLE_AGE) / MIDDLE_AGE if job.recipe.ageing else 0.0
    signal = tissue_signal(atlas_mm, site, lost)
    if job.lesion:
        signal *= 1 - taken_by_lesions(atlas_mm, job.recipe, person)
    shaded = signal * shading(shape, site.bias, visit)
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
    affine, shape = scanner_grid(site, visit), scan_shape(site)
    atlas_mm, inside = to_atlas(world_of(shape, affine), person), np.zeros(shape, dtype=np.uint8)
    if job.lesion or job.recipe.masks == "places":
        inside[taken_by_lesions(atlas_mm, job.recipe, person) > job.recipe.darkness[0] / 2] = 1
    return _stored(nib.nifti1.Nifti1Image(inside, affine), site)


def _stored(image: Any, site: Site) -> Any:
    """Turn the axes of an image to the orientation of a site."""
    wanted = nib.orientations.axcodes2ornt(site.orientation)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))


def _seed(seed: int, *names: object) -> list[int]:
    return [seed, *"/".join(map(str, names)).encode()]
