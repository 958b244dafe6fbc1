"""Sections of params.yaml about evaluation: calibrate, evidence, explain."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from pipeline.schema.types import Auto, Column, Fraction, Section, ascending, increasing


class Calibrate(Section):
    """Calibration of predictions, and their evaluation."""

    test: Literal["closed", "open"] = Field(
        default="closed",
        description="closed hides the metrics of the test set; open shows them, and counts the openings.",
    )
    form: Literal["refit", "ensemble"] = Field(
        default="refit",
        description="Model that is released: refit, the final model with a calibrator fitted on the held-out "
        "predictions of the folds; or ensemble, the mean of the folds' logits with a calibrator fitted on the cases of "
        "cohort.csv whose split is calibration.",
    )
    method: Auto | Literal["none", "temperature", "platt", "vector", "dirichlet", "beta", "isotonic"] = Field(
        default="auto",
        description="Calibrator, from logits to probabilities: none, temperature (one parameter), platt (slope and "
        "intercepts), beta, vector and dirichlet (several classes), isotonic (from 1000 cases on); auto takes the best "
        "by cross-fitting, and of equals the one with the fewest parameters.",
    )
    per_patient: Auto | Literal["none", "mean", "max"] = Field(
        default="auto",
        description="How several images of a patient become one prediction: none; mean (of their logits); max (the "
        "image with the highest prediction for the positive of two classes, or for each label of a multilabel task); "
        "auto is mean if a patient has several images and their labels agree. Patients are then evaluated first, and "
        "images beside them.",
    )
    n_bootstrap: int = Field(
        default=1000, ge=100, le=100_000, description="Replicates of the patient-cluster bootstrap."
    )
    confidence: Fraction = Field(default=0.95, description="Confidence level of its intervals.")
    bins: int = Field(
        default=10, ge=2, le=100, description="Bins of the reliability diagram and of the calibration error."
    )
    thresholds: Annotated[tuple[Fraction, Fraction], AfterValidator(ascending)] = Field(
        default=(0.05, 0.5),
        description="Range of probabilities above which a physician might act, from the most to the least cautious: "
        "the decision curve.",
    )
    sensitivity: Fraction = Field(
        default=0.9, description="Operating point with this sensitivity; its threshold is chosen on development cases."
    )
    specificity: Fraction = Field(
        default=0.9, description="Operating point with this specificity; its threshold is chosen on development cases."
    )
    set_coverage: Fraction = Field(
        default=0.9, description="How often a prediction set must contain the true class (conformal prediction)."
    )
    subgroups: tuple[Column, ...] = Field(
        default=(),
        description="Columns of cohort.csv that define subgroups, besides the site, e.g. [sex, age, scanner]. Columns "
        "that the cohort lacks are left out.",
    )
    baseline: tuple[Column, ...] = Field(
        default=(),
        description="Columns of cohort.csv for a baseline without images, besides the site, e.g. [age, sex]: the model "
        "must predict the label better. Columns that the cohort lacks are left out.",
    )
    times: Annotated[tuple[PositiveFloat, ...], AfterValidator(increasing)] = Field(
        default=(),
        description="Times for which a survival model gives the risk of the event, in `cohort.unit`, e.g. [12, 36, "
        "60]; [] takes the quartiles of the times at which development patients had the event.",
    )
    prevalences: tuple[Fraction, ...] = Field(
        default=(),
        description="Further prevalences of the positive class for which metrics are estimated, e.g. [0.01, 0.1].",
    )


class Evidence(Section):
    """Experiments that show whether transfer and adaptation helped."""

    budget: int = Field(
        default=0,
        ge=0,
        description="What training from scratch, from ImageNet and from the adapted encoder may cost, in passes of one "
        "128 x 128 image; 0 compares the latter two by probes on frozen features, in a minute or two. 1000000 is about "
        "three hours on two cores; `medadapt plan --minutes 60` prints what an hour buys on this machine.",
    )
    fractions: tuple[Fraction, ...] = Field(
        default=(0.1, 0.25, 0.5),
        min_length=1,
        description="Shares of the training patients at which the experimental arms are compared, besides all of them.",
    )
    draws: int = Field(default=3, ge=1, le=100, description="How often each share is drawn.")
    shots: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        default=(1, 5, 10, 20), description="Labelled patients of each class in the few-shot episodes."
    )
    episodes: int = Field(default=100, ge=2, le=10_000, description="Number of few-shot episodes.")
    auc_goal: float = Field(
        default=0.9, gt=0.5, lt=1, description="AUC for which the number of further labelled patients is estimated."
    )
    vision_language: str | None = Field(
        default=None,
        description="Vision-language model of open_clip for zero-shot predictions (extra `zeroshot`): a folder with "
        "its configuration and weights, or hub:OWNER/NAME@REVISION; null leaves it out.",
    )
    vision_language_sha256: str | None = Field(default=None, description="SHA-256 of its weights.")
    prompts: dict[str, tuple[str, ...]] = Field(
        default={},
        description='Prompts for each class, e.g. {lesion: ["an MRI of a brain with a lesion"]}; {} makes them from '
        "the names of the classes.",
    )


class Explain(Section):
    """Most confident errors, and saliency maps."""

    errors: int = Field(
        default=6, ge=0, description="Number of the most confident errors that the report shows for each set of cases."
    )
    method: Literal["gradcam", "occlusion"] = Field(
        default="gradcam",
        description="Saliency method: gradcam (replaced by occlusion where it shows nothing), or occlusion, which "
        "takes longer.",
    )
