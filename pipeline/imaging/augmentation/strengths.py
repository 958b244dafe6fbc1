"""The one table of augmentation strengths, from which both `per_case` and `batched` take their numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["volume", "image"]
Profile = Literal["mild", "strong"]


@dataclass(frozen=True)
class Strengths:
    """Ranges and probabilities of each augmentation; the defaults change nothing.

    Attributes
    ----------
    library : {"MONAI", "albumentations"}
        Whose conventions hold. MONAI: the affine map leads from the view into the case, gamma acts between the darkest
        and the brightest grey value, blur and noise are independent. albumentations: the affine map leads from the case
        to the view, gamma acts between 0 and 255, blur and noise exclude each other.
    flip_chance, contrast_chance, gamma_chance, factor_chance, bias_chance, colour_chance, blur_chance, coarse_chance,
    noise_chance
        Probability of each augmentation.
    slices : int
        Largest shift of a volume along its slices.
    degrees, shear_degrees : float
        Largest rotation, and largest shear along either axis, in either direction.
    shift_pixels, shift_share : float
        Largest shift along either axis, in pixels and in shares of the side; the two add up.
    stretch : (low, high)
        Scale factor of either axis, minus 1.
    contrast, contrast_middle, brightness : float
        A grey value g becomes (contrast_middle ± contrast) g ± 255 brightness.
    gamma : (low, high)
        Exponent.
    gamma_in_log : bool
        Whether the logarithm of the exponent is drawn uniformly instead of the exponent.
    factor, colour : float
        Grey values become (1 ± factor) g, with one draw per view, and (1 ± colour) g, with one draw per channel.
    bias : float
        Largest coefficient of the bias field, in either direction: the exponential of a polynomial of degree 2.
    blur_sigma : (low, high)
        Standard deviation of the Gaussian kernel in pixels.
    blur_radii : tuple of int
        Radii of the kernel in pixels, equally probable.
    coarse : (low, high)
        Share of the rows and columns that a loss of resolution keeps; the view has its full size afterwards.
    noise_std : (low, high)
        Standard deviation of Gaussian noise in shares of 255; each channel has its own noise.
    """

    library: Literal["MONAI", "albumentations"] = "MONAI"
    flip_chance: float = 0.0
    slices: int = 0
    degrees: float = 0.0
    shear_degrees: float = 0.0
    shift_pixels: float = 0.0
    shift_share: float = 0.0
    stretch: tuple[float, float] = (0.0, 0.0)
    contrast_chance: float = 0.0
    contrast: float = 0.0
    contrast_middle: float = 1.0
    brightness: float = 0.0
    gamma_chance: float = 0.0
    gamma: tuple[float, float] = (1.0, 1.0)
    gamma_in_log: bool = False
    factor_chance: float = 0.0
    factor: float = 0.0
    bias_chance: float = 0.0
    bias: float = 0.0
    colour_chance: float = 0.0
    colour: float = 0.0
    blur_chance: float = 0.0
    blur_sigma: tuple[float, float] = (0.5, 3.0)
    blur_radii: tuple[int, ...] = (1, 2, 2)
    coarse_chance: float = 0.0
    coarse: tuple[float, float] = (1.0, 1.0)
    noise_chance: float = 0.0
    noise_std: tuple[float, float] = (0.0, 0.0)

    @property
    def moving(self) -> "Strengths":
        """The same without changes of grey values: for masks."""
        kept = (
            "library",
            "flip_chance",
            "slices",
            "degrees",
            "shear_degrees",
            "shift_pixels",
            "shift_share",
            "stretch",
        )
        return Strengths(**{name: getattr(self, name) for name in kept})


ADAPTATION = Strengths(flip_chance=0.5, degrees=5, shift_pixels=4, stretch=(-0.05, 0.05))

TRAINING: Mapping[Kind, Strengths] = {
    "volume": Strengths(
        flip_chance=0.5,
        slices=1,
        degrees=10,
        shift_pixels=6,
        stretch=(-0.1, 0.1),
        gamma_chance=0.7,
        gamma=(0.7, 1.4),
        factor_chance=0.7,
        factor=0.15,
        noise_chance=0.5,
        noise_std=(0.0, 0.03),
    ),
    "image": Strengths(
        library="albumentations",
        flip_chance=0.5,
        degrees=12,
        shear_degrees=4,
        shift_share=0.06,
        stretch=(-0.15, 0.2),
        contrast_chance=0.7,
        contrast=0.2,
        brightness=0.15,
        gamma_chance=0.5,
        gamma=(0.8, 1.25),
        blur_chance=0.15,
        noise_chance=0.15,
        noise_std=(0.01, 0.05),
    ),
}

# Domain randomisation: the appearance varies as between scanners, so that training relies on it less (Zhang et al.
# 2020, "BigAug", table I; Billot et al. 2023, "SynthSeg").
_APPEARANCE: dict[str, Any] = {
    "library": "MONAI",
    "contrast_chance": 0.5,
    "contrast": 0.45,
    "contrast_middle": 0.85,
    "brightness": 0.15,
    "gamma_chance": 0.6,
    "gamma": (0.4, 2.5),
    "gamma_in_log": True,
    "bias_chance": 0.3,
    "bias": 0.3,
    "blur_chance": 0.2,
    "blur_sigma": (0.4, 1.5),
    "blur_radii": (5,),
    "coarse_chance": 0.4,
    "coarse": (1 / 3, 2 / 3),
    "noise_chance": 0.4,
    "noise_std": (0.0, 0.15),
}
STRONG: Mapping[Kind, Strengths] = {
    "volume": replace(TRAINING["volume"], factor_chance=0.0, **_APPEARANCE),
    "image": replace(TRAINING["image"], stretch=(-0.2, 0.15), **_APPEARANCE),
}
AUGMENTATION: Mapping[Profile, Mapping[Kind, Strengths]] = {"mild": TRAINING, "strong": STRONG}

_CONTRASTIVE = Strengths(
    flip_chance=0.5,
    degrees=10,
    shift_share=0.15,
    stretch=(-0.3, 0.0),
    gamma_chance=0.8,
    gamma=(0.6, 1.7),
    factor_chance=0.8,
    factor=0.3,
    bias_chance=0.5,
    bias=0.2,
    blur_chance=0.5,
    blur_sigma=(0.25, 1.5),
    blur_radii=(6,),
    noise_chance=0.5,
    noise_std=(0.0, 0.05),
)
CONTRASTIVE: Mapping[Kind, Strengths] = {
    "volume": replace(_CONTRASTIVE, slices=1),
    "image": replace(_CONTRASTIVE, colour_chance=0.8, colour=0.15),
}
