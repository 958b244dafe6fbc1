"""Frozen schema of params.yaml: one class per section, and no key that the schema does not know."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Auto = Literal["auto"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
FoldName = Annotated[str, BeforeValidator(str)]
Millimetres = Annotated[float, Field(gt=0, le=100)]
Column = Annotated[str, Field(pattern=r"^\w+$")]
Interval = Annotated[tuple[float, float], AfterValidator(lambda limits: _ascending(limits))]
Windows = Annotated[
    tuple[Interval, ...], Field(min_length=1, max_length=16), BeforeValidator(lambda value: _as_windows(value))
]
AlignmentLoss = Literal["coral", "mmd", "dann", "mcc"]
Statistics = Literal["adabn", "adabn_per_site", "nyul", "histogram", "combat"]
Method = Literal["none"] | Statistics | AlignmentLoss | Literal["simclr", "vicreg", "byol", "masked"]
ALIGNMENT_LOSSES = get_args(AlignmentLoss)
FINAL = "final"


class Section(BaseModel):
    """A part of params.yaml that can be neither extended nor changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Reading(Section):
    """What is done with a scan that is not quite right; the fields of `pipeline.imaging.reading.scan.Policy`."""

    frames: Literal["refuse", "first", "mean"] = "refuse"
    affine_conflict: Literal["refuse", "sform", "qform"] = "refuse"
    unknown_orientation: Literal["refuse", "assume"] = "refuse"
    missing_slices: Literal["refuse", "interpolate"] = "refuse"
    not_finite: Literal["refuse", "darken"] = "refuse"
    max_voxels: Annotated[int, Field(ge=1)] = 2**28
    spacing_mm: Interval = (0.01, 50.0)


class Cohort(Section):
    """Which cases, and what their labels mean."""

    path: str
    public: bool = False
    task: Auto | Literal["multiclass", "ordinal", "multilabel"] = "auto"
    classes: tuple[str, ...] = ()
    positive: str | None = None
    covariates: tuple[Column, ...] = ()
    reading: Reading = Reading()

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
    """How a stored scan becomes an array that the network takes."""

    modality: Auto | Literal["ct", "mr", "xray", "us", "rgb"] = "auto"
    image_size: Auto | Annotated[int, Field(ge=32, le=1024, multiple_of=16)] = "auto"
    slices: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    spacing: Auto | tuple[Millimetres, Millimetres, Millimetres] = "auto"
    instances: Auto | Literal["slab", "slice", "isotropic"] = "auto"
    channels: Auto | Literal[1, 3] = "auto"
    fit: Literal["pad", "stretch"] = "pad"
    intensity: Auto | Literal["keep", "percentile", "zscore"] | Windows = "auto"
    crop: Literal["none", "foreground"] = "none"
    deface: bool = False


class Split(Section):
    """Who is trained on, who is evaluated, and who is test away."""

    n_folds: Annotated[int, Field(ge=2, le=20)] = 5
    folds: tuple[FoldName, ...] = ("0", "1", "2", "3", "4", FINAL)
    test: Literal["given", "patients", "sites", "none"] = "given"
    test_fraction: Fraction = 0.2
    test_sites: tuple[str, ...] = ()
    validation_fraction: Fraction = 0.2
    allow_leaks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _folds_are_known_or_leave_a_site_out(self) -> "Split":
        known = [*map(str, range(self.n_folds)), FINAL]
        repeats = [f"{repetition}-{number}" for repetition in self.repeated for number in range(self.n_folds)]
        for name in self.folds:
            if name not in [*known, *repeats, *self.left_out]:
                raise ValueError(
                    f"split.folds names '{name}', but what may stand there is {', '.join(known)}, without-SITE and "
                    "blind-SITE, where SITE is a site of letters, digits, '-' and '_' ('-' for all else in its name), "
                    f"and r2-0 to r2-{self.n_folds - 1}, r3-0 to r3-{self.n_folds - 1} and so on, of further partitions"
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


class Adapt(Section):
    """Which encoder, and how it is brought into the domain."""

    encoder: str = "tf_efficientnet_lite0"
    weights: str = "pip"
    weights_sha256: str | None = None
    filter_depth: Annotated[int, Field(ge=1, le=9)] = 1
    method: Method | Auto = "adabn"
    strength: Annotated[float, Field(ge=0, le=1000)] = 0.5
    target: Literal["none", "unlabelled", "evaluated"] = "unlabelled"
    candidates: tuple[Method, ...] = ("adabn", "nyul", "coral", "simclr")
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 30
    patience: Annotated[int, Field(ge=1, le=10_000)] = 6
    batch_size: Annotated[int, Field(ge=4, le=4096)] = 32
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    trainable_stages: Annotated[int, Field(ge=1, le=16)] = 2
    test_time_steps: Annotated[int, Field(ge=0, le=100)] = 0
    test_time_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3

    @model_validator(mode="after")
    def _fits_the_method(self) -> "Adapt":
        if self.strength > 1 and self.method not in ALIGNMENT_LOSSES:
            raise ValueError(f"adapt.strength is {self.strength}, but of {self.method} it is a share between 0 and 1")
        if self.target == "none" and self.method in ALIGNMENT_LOSSES:
            raise ValueError(f"adapt.method {self.method} draws sites together, which needs an adapt.target")
        if self.filter_depth % 2 == 0:
            raise ValueError(
                f"adapt.filter_depth is {self.filter_depth}, but a filter needs a middle slice: 1, 3, 5 ..."
            )
        if self.filter_depth > 1 and "masked" in (self.method, *self.candidates):
            raise ValueError("adapt.method masked paints images over; with filter_depth above 1 take simclr or byol")
        if "none" in self.candidates or len(set(self.candidates)) < len(self.candidates):
            raise ValueError("adapt.candidates names a method twice, or none, where every search begins anyway")
        return self


class Finetune(Section):
    """How a fold is trained."""

    strategy: Auto | Literal["knn", "probe", "last_stage", "lp_ft", "gradual", "lora", "full"] = "auto"
    pooled_stages: Annotated[int, Field(ge=1, le=16)] = 4
    trainable_stages: Annotated[int, Field(ge=1, le=16)] = 2
    budget: Annotated[int, Field(ge=0)] = 10_000
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    views: Annotated[int, Field(ge=0, le=64)] = 4
    epochs: Annotated[int, Field(ge=1, le=1000)] = 30
    patience: Annotated[int, Field(ge=1, le=1000)] = 6
    batch_size: Annotated[int, Field(ge=2, le=1024)] = 16
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    rate_decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    class_weights: Literal["balanced", "sampling", "none"] = "balanced"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mix: Literal["none", "mixup", "cutmix"] = "none"
    mix_alpha: Annotated[float, Field(gt=0, le=10)] = 0.2
    average: Literal["none", "ema", "soup"] = "none"
    tta: tuple[Literal["mirror", "crops"], ...] = ()


class Calibrate(Section):
    """How predictions become probabilities, and how they are evaluated."""

    test: Literal["closed", "open"] = "closed"
    form: Literal["refit", "ensemble"] = "refit"
    method: Auto | Literal["none", "temperature", "platt", "vector", "dirichlet", "beta", "isotonic"] = "auto"
    per_patient: Auto | Literal["none", "mean", "max"] = "auto"
    n_bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 1000
    confidence: Fraction = 0.95
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    thresholds: Annotated[tuple[Fraction, Fraction], AfterValidator(lambda limits: _ascending(limits))] = (0.05, 0.5)
    sensitivity: Fraction = 0.9
    specificity: Fraction = 0.9
    set_coverage: Fraction = 0.9
    subgroups: tuple[Column, ...] = ()
    baseline: tuple[Column, ...] = ()
    prevalences: tuple[Fraction, ...] = ()


class Evidence(Section):
    """How it is told whether transfer and adaptation paid."""

    budget: Annotated[int, Field(ge=0)] = 0
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.25, 0.5)
    draws: Annotated[int, Field(ge=1, le=100)] = 3
    shots: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = (1, 5, 10, 20)
    episodes: Annotated[int, Field(ge=2, le=10_000)] = 100
    auc_goal: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    vision_language: str | None = None
    vision_language_sha256: str | None = None
    prompts: dict[str, tuple[str, ...]] = {}


class Explain(Section):
    """Which mistakes the page shows, and how it is found out where the network looked."""

    errors: Annotated[int, Field(ge=0)] = 6
    method: Literal["gradcam", "occlusion"] = "gradcam"


class Gates(Section):
    """What a model must show to be called validated; a limit that is null is not asked for."""

    min_auc_lower: Annotated[float, Field(ge=0, le=1)] | None = 0.6
    slope: Interval | None = (0.5, 2.0)
    max_external_drop: Annotated[float, Field(ge=0, le=1)] | None = 0.1
    min_events: Annotated[int, Field(ge=1)] | None = 100
    min_subgroup_auc: Annotated[float, Field(ge=0, le=1)] | None = 0.6
    card: tuple[str, ...] | None = ("intended_use", "out_of_scope", "contact", "data_licence", "ethics", "limitations")


class Release(Section):
    """What the handed-over model is called, and what it must show to be called validated."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = "classifier"
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "0.1.0"
    answered: Annotated[float, Field(gt=0, le=1)] = 0.9
    ood_rate: Fraction = 0.05
    gates: Gates = Gates()
    include_features: bool = False
    exports: tuple[Literal["torchscript", "onnx"], ...] = ("torchscript", "onnx")
    signing_key: str | None = None
    keep: str | None = None
    description: str = ""


class Report(Section):
    """What the page is called."""

    title: str = "medadapt"


class Params(Section):
    """The whole of params.yaml, or, from `for_stage`, the sections that one stage declared."""

    seed: int
    budget: Annotated[int, Field(ge=1)]
    cohort: Cohort
    preprocess: Preprocess
    split: Split
    adapt: Adapt
    finetune: Finetune
    calibrate: Calibrate
    evidence: Evidence
    explain: Explain
    release: Release
    report: Report

    @model_validator(mode="after")
    def _a_blind_fold_is_blind(self) -> "Params":
        if self.adapt.target == "evaluated" and any(name.startswith("blind-") for name in self.split.folds):
            raise ValueError(
                "split.folds names a blind- fold, but adapt.target: evaluated shows it the evaluated images"
            )
        return self

    @model_validator(mode="after")
    def _a_release_does_not_replace_what_it_starts_from(self) -> "Params":
        if self.adapt.weights.startswith("bundle:") and Path(self.adapt.weights).name == self.release.name:
            raise ValueError(f"adapt.weights is the release '{self.release.name}', which release.name would overwrite")
        return self


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"{list(limits)} is not [low, high]")
    return limits


def _as_windows(value: Any) -> Any:
    """Take `[low, high]` for a list of one window."""
    one = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(edge, int | float) for edge in value)
    return [value] if one else value
