"""The section `finetune` of params.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from pipeline.schema.types import Auto, Section

Preset = Auto | Literal["quick", "standard", "best"]
Member = Literal["knn", "probe", "full"]
Averaged = Literal["portfolio", "distilled"]
Single = Literal["knn", "probe", "last_stage", "lp_ft", "gradual", "lora", "full"]


def _ascending(sides: tuple[int, ...]) -> tuple[int, ...]:
    if list(sides) != sorted(sides):
        raise ValueError(f"{list(sides)} is not in ascending order")
    return sides


Sides = Annotated[tuple[Annotated[int, Field(ge=32, le=1024)], ...], AfterValidator(_ascending)]


class Full(Section):
    """Training of every stage, alone (`strategy: full`) or as a member of a portfolio."""

    epochs: Annotated[int, Field(ge=1, le=1000)] | Auto = Field(
        default="auto",
        description="Passes over the training cases; all of them are run, because no patient is set aside to stop "
        "early.\nauto: 6 for the preset quick, 12 for standard, 20 for best.",
    )
    sides: Sides | Auto = Field(
        default="auto",
        description="Rows and columns of the images in successive parts of the training; the network predicts at the "
        "last one. Images are never enlarged; [] takes them as they are, which a vision transformer needs.\n"
        "auto: [128, 160] for the preset quick, [160, 224] for standard and best.",
    )
    instances: Annotated[int, Field(ge=1)] | Auto = Field(
        default="auto",
        description="Instances of a volume that are drawn in each epoch, one from each of as many equal parts; "
        "predictions use all of them.\n"
        "auto: 6 for the preset quick, 12 for standard, 32 for best.",
    )
    seeds: Annotated[int, Field(ge=1, le=20)] | Auto = Field(
        default="auto",
        description="Networks that are trained with different seeds; each is a member of the portfolio.\n"
        "auto: 1, and 3 for the preset best.",
    )
    augmentation: Literal["mild", "strong"] = Field(
        default="mild",
        description="mild: views as of the same scanner. strong: contrast, gamma, shading, resolution and noise vary "
        "as between scanners (domain randomisation).",
    )
    statistics: Literal["images", "views"] | Auto = Field(
        default="auto",
        description="What the normalisation statistics of the trained network are estimated on: the training images, "
        "or strongly augmented views of them, which makes it robust to other scanners and a little less sure on images "
        "of the same one.\n"
        "auto: views if `augmentation` is strong, else images.",
    )
    learning_rate: float = Field(
        default=3e-4, gt=0, le=1, description="Learning rate of the head (AdamW, warm-up, then a cosine schedule)."
    )
    rate_decay: float = Field(
        default=1.0, gt=0, le=1, description="Learning rate of each stage, relative to the one above it."
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Weight decay of AdamW.")
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="Share of each target's probability that goes to the other classes."
    )


class SecondEncoder(Section):
    """A second pretrained encoder, frozen and not adapted: a probe on its features is one more member."""

    encoder: str | None = Field(
        default=None,
        description="A name as for `adapt.encoder`, e.g. rad_dino or vit_small_patch14_dinov2.lvd142m; null for no "
        "second encoder. `medadapt encoders` tells which two encoders are better together.",
    )
    weights: str = Field(default="catalogue", description="Source of its weights, in the notation of `adapt.weights`.")
    weights_sha256: str | None = Field(default=None, description="As `adapt.weights_sha256`, for its weights.")


class Finetune(Section):
    """Training of a fold."""

    strategy: Auto | Averaged | Single = Field(
        default="portfolio",
        description="portfolio: the mean of the probabilities of the `members` below, each trained on all training "
        "cases.\n"
        "distilled: one network, trained as `full`, which learns the probabilities of that portfolio instead of the "
        "labels; smaller and faster, and evaluated by itself.\n"
        "knn: vote of the most similar training cases (their features are part of the released model).\n"
        "probe: logistic regression on frozen features. All following strategies start from it, and fall back on it if "
        "no epoch is better.\n"
        "last_stage: the last stage; lp_ft: the last `trainable_stages` (Kumar et al. 2022); gradual: the same stages "
        "one after the other.\n"
        "lora: low-rank updates of the same stages of a ViT.\n"
        "full: every stage, on images that are augmented anew in each epoch, see `full` below.\n"
        "auto: one small model: try knn, probe, last_stage and lp_ft by cross-validation within the training cases, "
        "and take the last one that is better than those before it.",
    )
    members: tuple[Member, ...] = Field(
        default=("probe", "full"),
        min_length=1,
        description="Members of the portfolio, with equal weights. With knn the features of the training cases are "
        "part of the released model.",
    )
    second_encoder: SecondEncoder = SecondEncoder()
    preset: Preset = Field(
        default="auto",
        description="How much is spent on the network that trains every stage: quick (minutes for a few hundred images "
        "on two cores), standard (about an hour) or best (for a GPU, or a night). It decides the `auto` values of "
        "`full`.\n"
        "auto: quick below 100 development cases, else standard.",
    )
    full: Full = Full()
    budget: int = Field(
        default=10_000,
        ge=0,
        description="What auto may spend on its choice in each fold, in passes of one 128 x 128 image through the "
        "encoder; 10000 is about two minutes on two cores. A recipe that does not fit is not started.",
    )
    pooled_stages: int = Field(
        default=4,
        ge=1,
        le=16,
        description="How many of the encoder's last stages give features; 1 is the deepest alone.",
    )
    trainable_stages: int = Field(
        default=2,
        ge=1,
        le=16,
        description="How many of the encoder's last stages are trained; the others are frozen and computed once per "
        "view.",
    )
    rank: int = Field(default=8, ge=1, le=256, description="Rank of the updates for `strategy: lora`.")
    views: Annotated[int, Field(ge=0, le=64)] | Auto = Field(
        default="auto",
        description="Augmented views of each training case, drawn once; where `tta` has mirror, its mirror image is a "
        "view as well.\nauto: 0 for portfolio, distilled and full, else 4.",
    )
    epochs: int = Field(default=30, ge=1, le=1000, description="Maximum number of passes over the training cases.")
    patience: int = Field(
        default=6,
        ge=1,
        le=1000,
        description="Training stops after this many epochs without a better validation log-loss.",
    )
    batch_size: int = Field(default=16, ge=2, le=1024, description="Cases per step.")
    learning_rate: float = Field(
        default=1e-4, gt=0, le=1, description="Learning rate of the head (AdamW with a cosine schedule)."
    )
    rate_decay: float = Field(
        default=0.5, gt=0, le=1, description="Learning rate of each stage, relative to the one above it."
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Weight decay of AdamW.")
    class_weights: Literal["balanced", "sampling", "none"] = Field(
        default="balanced",
        description="A rare class counts as much as a common one, by its weight in the loss (balanced) or by the "
        "frequency of its cases in the batches (sampling); the prevalence is restored afterwards. none: every case "
        "counts the same.",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each target's probability that goes to the other classes."
    )
    mix: Literal["none", "mixup", "cutmix"] = Field(
        default="none", description="Blend each case with another one (mixup), or replace a box of it (cutmix)."
    )
    mix_alpha: float = Field(
        default=0.2, gt=0, le=10, description="The share of the other case is drawn from Beta(alpha, alpha)."
    )
    average: Literal["none", "ema", "soup"] = Field(
        default="none",
        description="Weights that are kept: of the best epoch (none), of an exponential moving average (ema), or the "
        "mean of good epochs (soup).",
    )
    tta: tuple[Literal["mirror", "crops"], ...] | Auto = Field(
        default="auto",
        description="Test-time augmentation, with the mean of all logits: [mirror], [crops] or both; [] for none. It "
        "is part of what is evaluated and released. Leave mirror out where left and right matter.\n"
        "auto: [mirror] for portfolio, distilled and full, else [].",
    )

    @model_validator(mode="after")
    def _members_are_named_once(self) -> "Finetune":
        if len(set(self.members)) < len(self.members):
            raise ValueError("finetune.members names a member twice; for networks of several seeds set full.seeds")
        return self

    @model_validator(mode="after")
    def _a_second_encoder_is_a_member(self) -> "Finetune":
        if self.second_encoder.encoder and self.strategy not in ("portfolio", "distilled"):
            raise ValueError(
                f"finetune.second_encoder is one more member of a portfolio, but finetune.strategy is {self.strategy}; "
                "set finetune.strategy to portfolio or distilled, or finetune.second_encoder.encoder to null"
            )
        return self
