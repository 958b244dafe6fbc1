"""Sections of params.yaml about what leaves the project: release, report."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.schema.types import Fraction, Interval, Section


class Gates(Section):
    """Requirements that a validated model must meet; null drops a requirement.

    A model that misses one is a candidate. A failed gate does not block its use for research; STATUS, card and metadata
    name the gate, the number that decides and the limit. Five more gates have no limit: no leak through the train/test
    boundary, no adaptation to evaluated images, real patients, no features of cases in the release unless that is
    agreed, and no pretrained weights that forbid commercial use unless that is accepted.
    """

    min_auc_lower: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.6, description="Minimum of the lower confidence bound of the internal AUC."
    )
    slope: Interval | None = Field(
        default=(0.5, 2.0),
        description="Range that must contain the whole confidence interval of the internal calibration slope; 1 is "
        "perfect.",
    )
    min_r2_lower: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.0,
        description="Of a regression, in the place of the gates of the AUC: minimum of the lower confidence bound of "
        "R² on the folds and, if it was opened, on the test set.",
    )
    min_c_lower: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.5,
        description="Of survival, in the place of the gates of the AUC: minimum of the lower confidence bound of "
        "Harrell's C-index on the folds and, if it was opened, on the test set.",
    )
    min_ipa_lower: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.0,
        description="Of survival: minimum of the lower confidence bound of the share by which the integrated Brier "
        "score lies below that of the Kaplan-Meier curve, on the same sets.",
    )
    max_external_drop: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.1, description="Maximum drop of the AUC from the folds to the test set, which must have been opened."
    )
    min_events: Annotated[int, Field(ge=1)] | None = Field(
        default=100,
        description="Minimum number of patients of the rarest class in the internal evaluation (Collins et al. 2016); "
        "of a regression, of all patients; of survival, of patients with the event.",
    )
    min_subgroup_auc: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.6,
        description="Minimum AUC of every subgroup of `calibrate.subgroups` and of every site; groups that are too "
        "small do not count.",
    )
    min_baseline_gain: Annotated[float, Field(ge=0)] | None = Field(
        default=0.0,
        description="Minimum of the lower confidence bound of the gain in AUC (of a regression: of the fall of the "
        "mean absolute error, in its unit; of survival: in the C-index) on the test set over each prediction without "
        "a network: by site, by the columns in `calibrate.baseline`, and by features of masks.",
    )
    max_coverage_shortfall: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.0,
        description="By how much the upper confidence bound of the coverage of prediction sets may lie below "
        "`calibrate.set_coverage`, on the folds and on the test set.",
    )
    min_answered: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.5,
        description="Minimum of the lower confidence bound of the share of test patients for whom the model gives an "
        "answer to at least one scan.",
    )
    recipe_evaluated: Literal[True] | None = Field(
        default=True,
        description="More than half of the evaluated folds must have the training, adaptation and encoder of the "
        "released model.",
    )
    patients_known: Literal[True] | None = Field(
        default=True, description="The cohort must name the patient of each case."
    )
    card: tuple[str, ...] | None = Field(
        default=("intended_use", "out_of_scope", "contact", "data_licence", "ethics", "limitations"),
        description="Fields of the cohort's card.yaml that a person must have filled in.",
    )


class Release(Section):
    """Name and contents of the released model, and its gates."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = Field(
        default="auto",
        description="Folder of the bundle below data/released.\n"
        "auto: the value in cohort.yaml, else the name of the cohort's folder.",
    )
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = Field(
        default="0.1.0", description="Version of the bundle."
    )
    description: str = Field(
        default="auto",
        description="One sentence about the model, for its card and metadata.\n"
        "auto: the value in cohort.yaml, else a sentence with the task, the classes and the numbers of the cohort.",
    )
    answered: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Share of the development cases that the model answers. `predict` abstains if its confidence is "
        "below the threshold that gives this share.",
    )
    ood_rate: Fraction = Field(
        default=0.05,
        description="Share of patients of the development sites that may be flagged as out of distribution by mistake.",
    )
    include_features: bool = Field(
        default=False,
        description="With nearest neighbours (`finetune.strategy: knn`) the features of the training cases are part of "
        "the model and leave with it. true: that is agreed. Otherwise such a model stays a candidate.",
    )
    non_commercial: bool = Field(
        default=False,
        description="The licence of some pretrained weights forbids commercial use, which then holds for the released "
        "model as well. true: that is accepted. Otherwise such a model stays a candidate.",
    )
    operating_point: Literal["specificity", "sensitivity"] = Field(
        default="specificity",
        description="Operating point at which `predict` decides: that of `calibrate.specificity` or that of "
        "`calibrate.sensitivity`. With more than two classes the decision is the most probable class.",
    )
    exports: tuple[Literal["torchscript", "onnx"], ...] = Field(
        default=("torchscript", "onnx"),
        description="Formats for programs without medadapt. Each is compared with the network, on every compared case "
        "alone and on 20 of them in batches of five, and shipped only if no probability differs by more than 1e-5.",
    )
    compared_cases: Annotated[int, Field(ge=1)] | None = Field(
        default=100,
        description="Development cases, drawn at random, on which exports are compared with the network and the "
        "preprocessing of the bundle with the prepared channels; null compares all. Of 100 cases at least one shows a "
        "difference that 3 % of all cases have, with a probability of 95 %.",
    )
    signing_key: str | None = Field(
        default=None,
        description="Private ssh key outside of the project that signs the bundle; null leaves it unsigned.",
    )
    keep: str | None = Field(
        default=None,
        description="Folder in which each version is kept under name and version and never overwritten; null keeps "
        "none.",
    )
    gates: Gates = Gates()


class Report(Section):
    """The report page."""

    title: str = Field(
        default="auto",
        description="Title of the page.\n"
        "auto: the value in cohort.yaml, else the classes and the name of the cohort's folder.",
    )
