"""Random views of a stored case: MONAI for adaptation and for volumes, albumentations for images.

Each view is drawn from its own seed, so that it can be drawn again and does not depend on any other.
"""

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a registry for its newest version

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Literal

import albumentations as A  # noqa: N812
import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from monai.transforms import Compose, RandomizableTransform

Channels = NDArray[np.uint8]
Kind = Literal["volume", "image"]

MONAI_IN_USE = Lock()  # a transform holds what it drew, and whether metadata are tracked is one switch for all threads


def adaptation_view(channels: Channels, seed: int) -> Channels:
    """Move and mirror a case a little, grey values untouched: what adaptation sees.

    Parameters
    ----------
    channels : (C, H, W) uint8
        Every channel is moved alike.
    seed : int
        In [0, 2**32).
    """
    return _through_monai(_adaptation_transforms(), channels, seed)


def training_view(channels: Channels, seed: int, kind: Kind, windows: int = 1) -> Channels:
    """Draw one augmented view of a case for training; same shape and range as `channels`.

    Parameters
    ----------
    channels : (C, H, W) uint8
    seed : int
        In [0, 2**32).
    kind : {"volume", "image"}
    windows : int
        Channels that show the same slice.
    """
    if kind == "image":
        return _through_albumentations(channels, seed)
    shifted = _shift_through_channels(channels, seed, windows)
    return _through_monai(_volume_transforms(), shifted, seed)


def contrastive_pair(channels: Channels, seed: int, kind: Kind, windows: int = 1) -> tuple[Channels, Channels]:
    """Draw two strong views of one case: what learning without labels takes for the same thing.

    Each is a random part of the case (between half of it and all) at full size, turned and mirrored left to right,
    with other contrast, brightness, shading, noise and sharpness; in a volume neighbouring slices count as the same,
    too. Never top to bottom: anatomy does not stand on its head. What the views differ in the encoder is taught to
    overlook: where brightness itself is the finding (calibrated units, density), take `adaptation_view` twice.

    Parameters
    ----------
    channels : (C, H, W) uint8
        A case or an instance of it; every channel is moved, shaded and sharpened alike.
    seed : int
        In [0, 2**32).
    kind : {"volume", "image"}
        The colours of a image are scaled each by itself.
    windows : int
        Channels that show the same slice.

    Returns
    -------
    first, second : (C, H, W) uint8
    """
    first, second = (int(one) for one in np.random.SeedSequence(seed).generate_state(2))
    return _contrastive_view(channels, first, kind, windows), _contrastive_view(channels, second, kind, windows)


def _contrastive_view(channels: Channels, seed: int, kind: Kind, windows: int) -> Channels:
    shifted = _shift_through_channels(channels, seed, windows) if kind == "volume" else channels
    return _drawn_in_turn(_contrastive_transforms(kind, channels.shape[1:]), shifted, seed)


def _through_monai(transforms: "Compose", channels: Channels, seed: int) -> Channels:
    with _alone_and_plain():
        transforms.set_random_state(seed=seed)
        view = transforms(_as_shares(channels))
    return _as_grey_values(view)


def _drawn_in_turn(transforms: "list[RandomizableTransform]", channels: Channels, seed: int) -> Channels:
    from pipeline.imaging.augmentation.drawing import drawn

    view = _as_shares(channels)
    with _alone_and_plain():
        transforms[0].R.seed(seed)  # which all of them share: a new one for each would take as long as half the view
        for transform in transforms:
            view = drawn(transform, view)
    return _as_grey_values(view)


@contextmanager
def _alone_and_plain() -> Iterator[None]:
    """Let one thread at a time use MONAI, on plain tensors: metadata would take longer than the pixels."""
    from monai.data import get_track_meta, set_track_meta

    with MONAI_IN_USE:
        tracked = get_track_meta()
        set_track_meta(False)
        try:
            yield
        finally:
            set_track_meta(tracked)


def _as_shares(channels: Channels) -> torch.Tensor:
    return torch.from_numpy(channels.astype(np.float32)).div_(255)


def _as_grey_values(view: torch.Tensor) -> Channels:
    return np.asarray(view.clamp(0, 1).mul_(255).round_().to(torch.uint8))


def _through_albumentations(channels: Channels, seed: int) -> Channels:
    transforms = _image_transforms()
    # Not `set_random_seed`, which starts every step on the same stream: gamma then comes exactly with the flip.
    transforms.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
    view = transforms(image=np.ascontiguousarray(np.moveaxis(channels, 0, -1)))["image"]
    return np.ascontiguousarray(np.moveaxis(view, -1, 0))


def _shift_through_channels(channels: Channels, seed: int, windows: int) -> Channels:
    """Let the borders between instances of neighbouring slices fall elsewhere; the last channel is repeated."""
    shift = int(np.random.default_rng(seed).integers(-1, 2))
    slices = channels.reshape(-1, windows, *channels.shape[1:])
    moved = np.clip(np.arange(len(slices)) + shift, 0, len(slices) - 1)
    return slices[moved].reshape(channels.shape)


@cache
def _adaptation_transforms() -> "Compose":
    from monai.transforms import Compose  # here and below: it takes seconds, and images need none of it

    return Compose([_flip(), _affine(degrees=5, shift=4, scale=0.05)])


@cache
def _volume_transforms() -> "Compose":
    from monai.transforms import Compose, RandAdjustContrast, RandGaussianNoise, RandScaleIntensity

    return Compose(
        [
            _flip(),
            _affine(degrees=10, shift=6, scale=0.1),
            RandAdjustContrast(prob=0.7, gamma=(0.7, 1.4)),
            RandScaleIntensity(factors=0.15, prob=0.7),
            RandGaussianNoise(prob=0.5, std=0.03),
        ]
    )


@cache
def _image_transforms() -> A.Compose:
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(scale=(0.85, 1.2), rotate=(-12, 12), translate_percent=(-0.06, 0.06), shear=(-4, 4), p=1.0),
            A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.2, p=0.7),
            A.RandomGamma(gamma_limit=(80, 125), p=0.5),
            A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.01, 0.05))], p=0.3),
        ]
    )


@cache
def _contrastive_transforms(kind: Kind, size: tuple[int, int]) -> "list[RandomizableTransform]":
    from monai.transforms import (
        RandAdjustContrast,
        RandAffine,
        RandBiasField,
        RandGaussianNoise,
        RandGaussianSmooth,
        RandScaleIntensity,
    )

    colours = [RandScaleIntensity(factors=0.15, prob=0.8, channel_wise=True)] if kind == "image" else []
    transforms = [
        _flip(),
        RandAffine(  # crop, resize and turn in one interpolation
            prob=1.0,
            rotate_range=np.deg2rad(10),
            translate_range=tuple(0.15 * length for length in size),
            scale_range=((-0.3, 0.0), (-0.3, 0.0)),
            padding_mode="zeros",
        ),
        RandAdjustContrast(prob=0.8, gamma=(0.6, 1.7)),
        RandScaleIntensity(factors=0.3, prob=0.8),
        RandBiasField(prob=0.5, degree=2, coeff_range=(-0.2, 0.2)),
        *colours,
        RandGaussianSmooth(sigma_x=(0.25, 1.5), sigma_y=(0.25, 1.5), prob=0.5),
        RandGaussianNoise(prob=0.5, std=0.05),
    ]
    shared = np.random.RandomState()
    for transform in transforms:
        transform.set_random_state(state=shared)
    return transforms


def _flip() -> "RandomizableTransform":
    from monai.transforms import RandFlip

    return RandFlip(prob=0.5, spatial_axis=1)


def _affine(degrees: float, shift: float, scale: float) -> "RandomizableTransform":
    from monai.transforms import RandAffine

    return RandAffine(
        prob=1.0,
        rotate_range=np.deg2rad(degrees),
        translate_range=(shift, shift),
        scale_range=(scale, scale),
        padding_mode="zeros",
    )
