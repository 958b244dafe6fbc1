"""Sections of params.yaml about cases: cohort, preprocess, split."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.imaging.reading.scan import STRICT
from pipeline.schema.types import (
    FINAL,
    Auto,
    Column,
    FoldName,
    Fraction,
    InputColumn,
    Interval,
    Millimetres,
    Section,
    Windows,
)


class Reading(Section):
    """How a scan that is not quite right is read. The audit names the key that decided about each finding."""

    frames: Literal["refuse", "first", "mean"] = Field(
        default=STRICT.frames,
        description="A file with several volumes (4D) or several images: refuse it, or take the first or their mean.",
    )
    affine_conflict: Literal["refuse", "sform", "qform"] = Field(
        default=STRICT.affine_conflict,
        description="A NIfTI file whose sform and qform differ in orientation or voxel size: refuse it, or take one of "
        "the two.",
    )
    unknown_orientation: Literal["refuse", "assume"] = Field(
        default=STRICT.unknown_orientation,
        description="A volume whose file (NIfTI, NRRD, MetaImage) states no orientation or no sound voxel size: refuse "
        "it, or assume the fallback of its format, in which left and right may be exchanged.",
    )
    missing_slices: Literal["refuse", "interpolate"] = Field(
        default=STRICT.missing_slices,
        description="A DICOM series with gaps or uneven distances: refuse it, or interpolate between neighbouring "
        "slices.",
    )
    not_finite: Literal["refuse", "darken"] = Field(
        default=STRICT.not_finite,
        description="NaN and infinite voxels: refuse the scan, or set them to the lowest finite value.",
    )
    max_voxels: int = Field(
        default=STRICT.max_voxels,
        ge=1,
        description="Larger scans are refused before any memory is allocated (268435456 is 512 x 512 x 1024).",
    )
    spacing_mm: Interval = Field(
        default=STRICT.spacing_mm, description="Range of plausible voxel sizes in millimetres."
    )


class Cohort(Section):
    """Cases, and the meaning of their labels."""

    path: str = Field(
        description="Folder with a cohort.csv (see `medadapt import --help`), or with a recipe.yaml to be simulated."
    )
    roots: tuple[str, ...] = Field(
        default=(),
        description="Folders outside of `path` that may hold images, where cohort.csv or links lead there; an image "
        "elsewhere is refused. DVC does not watch them: after a change there, call `dvc repro -f cohort`.",
    )
    public: bool = Field(
        default=False,
        description="true for open data only: pseudonyms are then the same on every machine. Otherwise they depend on "
        "your private salt.",
    )
    task: Auto | Literal["multiclass", "ordinal", "multilabel", "regression", "survival"] = Field(
        default="auto",
        description="multiclass: one label per case, of two or more classes.\n"
        "ordinal: grades, listed in `classes` from the lowest upwards.\n"
        "multilabel: any number of labels per case (`edema;?mass`, where `?name` means not known and `no finding` "
        "means looked for and absent).\n"
        "regression: one number per case, in the `unit` below.\n"
        "survival: the time until an event, in the `unit` below, in the columns `time` and `event` (1, or 0 where the "
        "case is censored at that time) in the place of `label`.\n"
        "auto: the value in cohort.yaml, else multilabel if any label contains ';' or '?', multiclass if none does.",
    )
    unit: str = Field(
        default="",
        max_length=30,
        description="Unit of the number of a regression, e.g. ml or years, 1 for none; or of times, e.g. months.",
    )
    classes: tuple[str, ...] = Field(
        default=(), description="Classes in order; [] takes every label of the table in alphabetical order."
    )
    positive: str | None = Field(
        default=None,
        description="Of two classes, the one whose probability is reported; null takes the last one. It must be null "
        "for ordinal and multilabel tasks.",
    )
    covariates: tuple[Column, ...] = Field(
        default=(),
        description="Further columns of the table with numbers or one of two words, e.g. [age, sex]. ComBat "
        "(`adapt.method: combat`) keeps their effect on the features when it removes the effect of the site.",
    )
    inputs: tuple[InputColumn, ...] = Field(
        default=(),
        description="Columns of cohort.csv that the model takes besides the image, e.g. [age, {stage: [I, II, III]}, "
        "{scanner_code: categorical}]. A column whose values are mostly numbers is numeric, any other categorical; a "
        "list says the order of its categories, and `numeric` or `categorical` says the type. An empty cell is a "
        "missing value. A penalised logistic regression joins them with the image; it is evaluated and released, and "
        "`calibrate.method` is then about the image alone. Where cohort.csv names masks, features of their shape and "
        "of the values inside are columns as well: [mask_features] takes all, [mask_volume, mask_sphericity] these.",
    )
    mask_labels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(),
        description="Label numbers that count in the masks of the column `mask` of cohort.csv, e.g. [1, 2]; their "
        "union is the region. [] takes every number but 0.",
    )
    reading: Reading = Reading()

    @model_validator(mode="after")
    def _inputs_are_named_once(self) -> "Cohort":
        names = list(self.input_types)
        if len(names) < len(self.inputs):
            raise ValueError("cohort.inputs names a column twice")
        for name, categories in self.input_types.items():
            if not isinstance(categories, str) and len(set(categories)) < len(categories):
                raise ValueError(f"cohort.inputs names a category of '{name}' twice")
        return self

    @property
    def input_types(self) -> dict[str, str | tuple[str, ...]]:
        """By name of an input, its categories in order, "numeric", "categorical", or "" to be told by its content."""
        types: dict[str, str | tuple[str, ...]] = {}
        for one in self.inputs:
            types |= {one: ""} if isinstance(one, str) else one
        return types

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> "Cohort":
        if self.task == "ordinal" and not self.classes:
            raise ValueError("cohort.task is ordinal, so cohort.classes must name the grades from the lowest upwards")
        if self.task in ("ordinal", "multilabel") and self.positive is not None:
            raise ValueError(f"cohort.positive is '{self.positive}', but {self.task} has no such class; set it to null")
        if self.positive is not None and self.classes and self.positive not in self.classes:
            raise ValueError(f"cohort.positive is '{self.positive}', which is not in cohort.classes")
        return self


class Preprocess(Section):
    """Conversion of a stored scan to the array that the network takes."""

    modality: Auto | Literal["ct", "mr", "xray", "us", "rgb"] = Field(
        default="auto",
        description="Modality, which decides what `intensity: auto` means; auto takes it from DICOM, if given.",
    )
    image_size: Auto | Annotated[int, Field(ge=32, le=1024, multiple_of=16)] = Field(
        default="auto",
        description="Rows and columns of the input; auto is what the scans can fill, up to 224, within `budget`.",
    )
    slices: Auto | Annotated[int, Field(ge=1, le=256)] = Field(
        default="auto",
        description="Instances of a volume that the network processes one by one; auto as above, up to 32. Images "
        "have one.",
    )
    spacing: Auto | tuple[Millimetres, Millimetres, Millimetres] = Field(
        default="auto",
        description="Millimetres between stored columns, rows and slices of a volume; auto lets the median scan just "
        "fit.",
    )
    instances: Auto | Literal["slab", "slice", "isotropic"] = Field(
        default="auto",
        description="Instance of a volume: slab (three neighbouring slices, 2.5D), slice (one, 2D), or isotropic (one "
        "slice of a grid with equal spacing, for a 3D network); auto is slab, or slice if there are several windows.",
    )
    channels: Auto | Literal[1, 3] = Field(
        default="auto", description="1 (grey) or 3 (colour) for images; auto is 3 if any image has colour channels."
    )
    fit: Literal["pad", "stretch"] = Field(
        default="pad", description="How an image becomes square: pad keeps its proportions, stretch does not."
    )
    intensity: Auto | Literal["keep", "percentile", "zscore"] | Windows = Field(
        default="auto",
        description="Which values become black and white: keep (0 and 255), percentile (0.5 and 99.5 of each case), "
        "zscore (3 standard deviations around the mean of the non-zero values), a window [low, high] in Hounsfield "
        "units, or several, [[-1000, 400], [-160, 240]], each a channel of its own.\n"
        "auto: keep for 8-bit images, [-1000, 400] for CT, else percentile.",
    )
    crop: Literal["none", "foreground"] = Field(
        default="none",
        description="foreground: crop a volume to the bounding box of the foreground (Otsu) and centre it; set "
        "`spacing` to zoom in.",
    )
    mask: Literal["none", "crop", "channel", "both"] = Field(
        default="none",
        description="What the network sees of the masks in the column `mask` of cohort.csv. crop: the scan within the "
        "box around the mask and a margin. channel: the mask as one more channel of each slice or image. both: both.",
    )
    mask_margin_mm: Annotated[float, Field(ge=0, le=500)] = Field(
        default=10.0,
        description="Margin around the mask that `mask: crop` keeps, in millimetres; of an image without pixel size, "
        "in pixels.",
    )
    mask_missing: Literal["refuse", "whole"] = Field(
        default="refuse",
        description="A case without a mask, or with an empty one, where the network sees masks: refuse it, or take the "
        "whole scan as its region.",
    )
    deface: bool = Field(
        default=False,
        description="Remove the face from head MRI and CT by registering the MNI template. The report warns if this is "
        "off.",
    )


class Split(Section):
    """Test set, folds, and the roles of cases in them."""

    n_folds: int = Field(
        default=5,
        ge=2,
        le=20,
        description="Number of folds, grouped by patient and stratified by class. From 2,000 patients on, patients "
        "stay in their folds when the cohort grows.",
    )
    folds: tuple[FoldName, ...] = Field(
        default=("0", "1", "2", "3", "4", FINAL),
        description="Folds and further models to train. Adding a name trains only that one.\n"
        "final: the model that is released; the same recipe on all development cases.\n"
        "without-SITE: hold out all development cases of a site and train on those of the others. In SITE, '-' stands "
        "for any character other than a letter, a digit or '_'.\n"
        "blind-SITE: the same, but adaptation does not see the unlabelled images of the site either.\n"
        "r2-0, r2-1, ..., r3-0, ...: folds of a second and third partition, assigned with other seeds (repeated "
        "cross-validation).",
    )
    test: Literal["given", "patients", "sites", "none"] = Field(
        default="given",
        description="Which cases are reserved for the test set: given (split = test in the table), sites, patients (by "
        "a keyed hash), or none.\n"
        "auto: the value in cohort.yaml, else given if the table marks test cases, and patients if not.",
    )
    test_fraction: Fraction = Field(
        default=0.2,
        description="Share of the patients in the test set if `test: patients`. A patient who is in the test set stays "
        "there, however the cohort grows.",
    )
    test_sites: tuple[str, ...] = Field(default=(), description="Sites in the test set if `test: sites`.")
    validation_fraction: Fraction = Field(
        default=0.2, description="Share of the training patients used for early stopping; they are not trained on."
    )
    allow_leaks: tuple[str, ...] = Field(
        default=(),
        description="Pseudonyms of patients (or of duplicate images) whose presence on both sides of the train/test "
        "boundary you acknowledge.",
    )

    @model_validator(mode="after")
    def _folds_are_known_or_leave_a_site_out(self) -> "Split":
        known = [*map(str, range(self.n_folds)), FINAL]
        repeats = [f"{repetition}-{number}" for repetition in self.repeated for number in range(self.n_folds)]
        for name in self.folds:
            if name not in [*known, *repeats, *self.left_out]:
                raise ValueError(
                    f"split.folds names '{name}', which is no fold; choose from {', '.join(known)}, without-SITE and "
                    "blind-SITE (SITE is the name of a site, with '-' for all but letters, digits and '_'), and, for "
                    f"further partitions, r2-0 to r2-{self.n_folds - 1}, r3-0 to r3-{self.n_folds - 1} and so on"
                )
        if len(set(self.folds)) < len(self.folds):
            raise ValueError("split.folds names a fold twice")
        if self.test == "sites" and not self.test_sites:
            raise ValueError("split.test is 'sites', but split.test_sites is empty")
        return self

    @property
    def numbered(self) -> tuple[str, ...]:
        """The folds of the partition that are trained; together they hold each case out once at most."""
        return tuple(name for name in self.folds if name.isdigit())

    @property
    def repeated(self) -> dict[str, tuple[str, ...]]:
        """Of each further repetition ("r2") the folds that are trained ("r2-0"), both in the order of `folds`."""
        named = re.compile(r"(r(?:[2-9]|[1-9][0-9]+))-[0-9]+")
        repetition = {name: match[1] for name in self.folds if (match := named.fullmatch(name))}
        return {one: tuple(name for name in repetition if repetition[name] == one) for one in repetition.values()}

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names without-SITE and blind-SITE, each evaluated for itself."""
        return tuple(name for name in self.folds if re.fullmatch(r"(without|blind)-[A-Za-z0-9_-]+", name))
