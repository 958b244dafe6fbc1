"""Random views of one case: MONAI for volumes and adaptation, albumentations for images.

A view depends on the case and its own seed alone.
"""

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # stops albumentations from querying a registry on import

from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.imaging.augmentation.batched import channels_of_neighbours
from pipeline.imaging.augmentation.strengths import ADAPTATION, TRAINING, Kind, Strengths
from pipeline.imaging.geometry import masks_among

if TYPE_CHECKING:
    import albumentations
    from monai.transforms import Compose

Channels = NDArray[np.uint8]

IN_USE = Lock()  # transforms hold their generators, and MONAI's metadata tracking is one switch for all threads


def adaptation_view(channels: Channels, seed: int, *, mask_every: int = 0) -> Channels:
    """Move and mirror a case slightly; grey values change by interpolation only.

    Parameters
    ----------
    channels : (C, H, W) uint8
        Every channel is moved alike.
    seed : int
        In [0, 2**32).
    mask_every : int
        Each so many-th channel is a mask (0 or 255) and stays one; 0: none.
    """
    view = _through_monai(_monai_transforms(ADAPTATION), channels, seed)
    masks = masks_among(len(view), mask_every)
    view[masks] = _as_mask(view[masks])
    return view


def training_view(channels: Channels, seed: int, kind: Kind, windows: int = 1, *, mask_every: int = 0) -> Channels:
    """Draw one augmented view of a case for training; same shape and range as `channels`.

    Parameters
    ----------
    channels : (C, H, W) uint8
    seed : int
        In [0, 2**32).
    kind : {"volume", "image"}
    windows : int
        Channels that show the same slice.
    mask_every : int
        Each so many-th channel is a mask (0 or 255), which is moved as the others and not changed otherwise; 0: none.
    """
    strengths = TRAINING[kind]
    shift = int(np.random.default_rng(seed).integers(-strengths.slices, strengths.slices + 1))
    if shift:
        channels = channels[channels_of_neighbours(len(channels), shift, windows)]
    masks = masks_among(len(channels), mask_every)
    view = np.empty_like(channels)
    view[~masks] = _changed(channels[~masks], seed, kind, strengths)
    if masks.any():
        view[masks] = _as_mask(_changed(channels[masks], seed, kind, strengths.moving))
    return view


def _changed(channels: Channels, seed: int, kind: Kind, strengths: Strengths) -> Channels:
    if kind == "image":
        return _through_albumentations(_image_transforms(strengths), channels, seed)
    return _through_monai(_monai_transforms(strengths), channels, seed)


def _as_mask(channels: Channels) -> Channels:
    return np.where(channels > 127, 255, 0).astype(np.uint8)


def _through_monai(transforms: "Compose", channels: Channels, seed: int) -> Channels:
    """Let one thread at a time use MONAI, on plain tensors: tracking metadata would take longer than the pixels."""
    from monai.data import get_track_meta, set_track_meta

    shares = torch.from_numpy(channels.astype(np.float32)).div_(255)
    with IN_USE:
        tracked = get_track_meta()
        set_track_meta(False)
        try:
            view = transforms.set_random_state(seed=seed)(shares)
        finally:
            set_track_meta(tracked)
    return np.asarray(view.clamp(0, 1).mul_(255).round_().to(torch.uint8))


def _through_albumentations(transforms: "albumentations.Compose", channels: Channels, seed: int) -> Channels:
    image = np.ascontiguousarray(np.moveaxis(channels, 0, -1))
    with IN_USE:
        # `set_random_seed` gives every transform the same stream, so that gamma would always coincide with the flip.
        transforms.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
        view = transforms(image=image)["image"]
    return np.ascontiguousarray(np.moveaxis(view, -1, 0))


@cache
def _monai_transforms(s: Strengths) -> "Compose":
    # Imported here because it takes seconds, and cohorts of images do not need it.
    from monai.transforms import (
        Compose,
        RandAdjustContrast,
        RandAffine,
        RandFlip,
        RandGaussianNoise,
        RandScaleIntensity,
    )

    affine = RandAffine(
        prob=1.0,
        rotate_range=np.deg2rad(s.degrees),
        translate_range=(s.shift_pixels, s.shift_pixels),
        scale_range=(s.stretch, s.stretch),
        padding_mode="zeros",
    )
    grey_values = [
        RandAdjustContrast(prob=s.gamma_chance, gamma=s.gamma),
        RandScaleIntensity(factors=s.factor, prob=s.factor_chance),
        RandGaussianNoise(prob=s.noise_chance, std=s.noise_std[1]),
    ]
    return Compose([RandFlip(prob=s.flip_chance, spatial_axis=1), affine, *(grey_values if s.noise_chance else [])])


@cache
def _image_transforms(s: Strengths) -> "albumentations.Compose":
    import albumentations as A  # noqa: N812

    moving = [
        A.HorizontalFlip(p=s.flip_chance),
        A.Affine(
            scale=(1 + s.stretch[0], 1 + s.stretch[1]),
            rotate=(-s.degrees, s.degrees),
            translate_percent=(-s.shift_share, s.shift_share),
            shear=(-s.shear_degrees, s.shear_degrees),
            p=1.0,
        ),
    ]
    grey_values = [
        A.RandomBrightnessContrast(brightness_limit=s.brightness, contrast_limit=s.contrast, p=s.contrast_chance),
        A.RandomGamma(gamma_limit=(100 * s.gamma[0], 100 * s.gamma[1]), p=s.gamma_chance),
        A.OneOf(
            [A.GaussianBlur(blur_limit=(3, 5), sigma_limit=s.blur_sigma), A.GaussNoise(std_range=s.noise_std)],
            p=s.blur_chance + s.noise_chance,
        ),
    ]
    return A.Compose([*moving, *(grey_values if s.noise_chance else [])])
