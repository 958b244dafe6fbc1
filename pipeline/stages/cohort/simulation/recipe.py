"""The recipe of a simulated cohort, in recipe.yaml: its sites, and how its patients and their lesions are drawn."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import UserError
from pipeline.yaml_files import read_yaml

RECIPE = "recipe.yaml"


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


class Times(BaseModel):
    """Describe times until an event, which lesions shorten: Weibull distributed, with random censoring.

    Attributes
    ----------
    scale : float
        Scale of the times of patients without lesions, in the unit of `cohort.unit`; above 0.
    hazard_ratio : float
        By which 10 ml more of lesions multiply the hazard; above 0.
    shape : float
        Of the Weibull distribution; 1 is the exponential one.
    censored : float
        Expected share of censored patients, from 0 to below 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    scale: float = Field(default=60.0, gt=0)
    hazard_ratio: float = Field(default=1.5, gt=0)
    shape: float = Field(default=1.0, gt=0)
    censored: float = Field(default=0.3, ge=0, lt=1)


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
    # lesion_volume (ml) and age (years): for `cohort.task: regression`; time: columns time and event, for survival
    label: Literal["class", "lesion_volume", "age", "time"] = "class"
    ageing: float = Field(
        default=0.0, ge=0, le=1
    )  # share of grey matter that 50 years take; of white matter half of it
    times: Times = Times()
    sites: dict[str, Site]


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
