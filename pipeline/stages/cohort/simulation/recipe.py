"""The recipe of a simulated cohort, in recipe.yaml: its sites, and how its patients and their lesions are drawn."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

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
