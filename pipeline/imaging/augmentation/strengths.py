"""How far the views of `batched_views` may differ from a case: in numbers, those that `views` gives its libraries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["volume", "image"]


@dataclass(frozen=True)
class Strengths:
    """How far views may differ from the case; every default is no difference.

    Attributes
    ----------
    flip_chance, contrast_chance, gamma_chance, factor_chance : float
        Probability of each.
    blur_chance, noise_chance : float
        They exclude each other: their sum is at most 1.
    slices : int
        Neighbouring slices to which a volume's may move.
    degrees, shear_degrees : float
        Rotation, and shear along either axis, to both sides.
    shift_pixels, shift_share : float
        Shift along either axis, to both sides, in pixels and in shares of the side; they add up.
    scale : (low, high)
        Of either axis: of a volume how much of it a pixel spans, of a image how large it becomes.
    contrast, brightness : float
        Grey values become (1 ± contrast) g ± 255 brightness.
    gamma : (low, high)
        Exponent of grey values as shares: of a volume between its darkest and brightest, of a image of 255.
    factor : float
        Grey values become (1 ± factor) g.
    blur_sigma : (low, high)
        In pixels; the kernel has three or, twice as often, five of them.
    noise_std : (low, high)
        In shares of 255; every channel has noise of its own.
    """

    flip_chance: float = 0.0
    slices: int = 0
    degrees: float = 0.0
    shear_degrees: float = 0.0
    shift_pixels: float = 0.0
    shift_share: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    contrast_chance: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    gamma_chance: float = 0.0
    gamma: tuple[float, float] = (1.0, 1.0)
    factor_chance: float = 0.0
    factor: float = 0.0
    blur_chance: float = 0.0
    blur_sigma: tuple[float, float] = (0.5, 3.0)
    noise_chance: float = 0.0
    noise_std: tuple[float, float] = (0.0, 0.0)


STRENGTHS: Mapping[Kind, Strengths] = {  # those of `views._volume_transforms` and `views._image_transforms`
    "volume": Strengths(
        flip_chance=0.5,
        slices=1,
        degrees=10,
        shift_pixels=6,
        scale=(0.9, 1.1),
        gamma_chance=0.7,
        gamma=(0.7, 1.4),
        factor_chance=0.7,
        factor=0.15,
        noise_chance=0.5,
        noise_std=(0.0, 0.03),
    ),
    "image": Strengths(
        flip_chance=0.5,
        degrees=12,
        shear_degrees=4,
        shift_share=0.06,
        scale=(0.85, 1.2),
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
