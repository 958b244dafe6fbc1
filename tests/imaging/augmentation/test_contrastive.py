from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
)

from pipeline.imaging.augmentation.batched import _apply_bias, _draw, batched_views, contrastive_pair
from pipeline.imaging.augmentation.strengths import CONTRASTIVE
from tests.imaging.augmentation.moments import assert_same_distribution, phantom

CASES = {
    "volume": np.random.default_rng(0).integers(0, 255, (6, 32, 32), dtype=np.uint8),
    "image": np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8),
    "grey": np.random.default_rng(0).integers(0, 255, (1, 32, 32), dtype=np.uint8),
}


@pytest.mark.parametrize("name", CASES)
def test_two_contrastive_views_follow_from_their_seed_and_differ(name):
    channels, kind = CASES[name], "volume" if name == "volume" else "image"
    first, second = contrastive_pair(channels, 7, kind)
    others = [contrastive_pair(channels, seed, kind)[0] for seed in range(5)]
    np.random.seed(1)
    again = contrastive_pair(channels, 7, kind)
    np.testing.assert_array_equal(again[0], first)
    np.testing.assert_array_equal(again[1], second)
    assert (first != second).any() and all((other != first).any() for other in others)
    for view in (first, second):
        assert view.shape == channels.shape and view.dtype == np.uint8


def contrastive_views(channels, kind="image", seeds=30, windows=1):
    return [view for seed in range(seeds) for view in contrastive_pair(channels, seed, kind, windows)]


def centre_of(view):
    return np.argwhere(view[0] > 75).mean(axis=0)


def test_contrastive_views_mirror_left_to_right_and_never_top_to_bottom():
    channels = np.zeros((1, 64, 64), dtype=np.uint8)
    channels[0, 12:22, 12:22] = 255
    centres = np.array([centre_of(view) for view in contrastive_views(channels)])
    assert (centres[:, 0] < 32).all()
    assert 10 < (centres[:, 1] < 32).sum() < 50


def test_contrastive_views_show_between_half_of_the_image_and_all_of_it():
    channels = np.zeros((1, 64, 64), dtype=np.uint8)
    channels[0, 22:42, 22:42] = 255
    areas = np.array([(view[0] > 75).sum() for view in contrastive_views(channels)]) / 400
    assert areas.min() > 0.9 and areas.max() < 1 / 0.49 + 0.2
    assert areas.max() > 1.5


def test_contrastive_views_change_brightness_contrast_and_sharpness():
    channels = np.full((1, 64, 64), 60, dtype=np.uint8)
    channels[0, :, ::2] = 180
    middle = np.array([view[0, 28:36, 28:36] for view in contrastive_views(channels)], dtype=float)
    levels, contrasts = middle.mean(axis=(1, 2)), middle.std(axis=(1, 2))
    assert levels.max() > 1.4 * levels.min()
    assert contrasts.max() > 3 * contrasts.min()


def test_channels_of_a_volume_differ_in_contrastive_views_by_noise_only():
    channels = np.repeat(CASES["volume"][:1], 6, axis=0)
    apart = [np.abs(view.astype(float) - view[0]).mean() for view in contrastive_views(channels, "volume")]
    assert min(apart) == 0 and max(apart) < 20


def test_only_the_colours_of_an_image_are_scaled_each_by_itself():
    grey = np.full((3, 32, 32), 120, dtype=np.uint8)
    for kind, expected in (("image", True), ("volume", False)):
        middles = [view[:, 12:20, 12:20].mean(axis=(1, 2)) for view in contrastive_views(grey, kind)]
        assert any(np.ptp(middle) > 10 for middle in middles) == expected


@pytest.mark.parametrize("windows", [1, 2])
def test_a_neighbouring_slice_is_the_same_in_a_volume_with_all_windows(windows):
    channels = np.full((6, 32, 32), 200, dtype=np.uint8)
    channels[:windows] = 0
    bright = [
        (view[:, 12:20, 12:20].mean(axis=(1, 2)) > 75).tolist()
        for view in contrastive_views(channels, "volume", 10, windows)
    ]
    assert {tuple(one) for one in bright} == {(False,) * n + (True,) * (6 - n) for n in (0, windows, 2 * windows)}
    assert all(not view[:windows, 12:20, 12:20].mean() > 75 for view in contrastive_views(channels, "image", 10))


def test_a_case_stays_as_it_is_when_contrastive_views_are_drawn():
    channels = CASES["volume"].copy()
    contrastive_pair(channels, 1, "volume")
    np.testing.assert_array_equal(channels, CASES["volume"])


def test_steps_of_a_contrastive_view_are_drawn_independently():
    drawn = _draw(range(600), CONTRASTIVE["image"], (600, 3, 8, 8))
    scaled = _draw(range(600), replace(CONTRASTIVE["image"], colour_chance=0.0), (600, 3, 8, 8))
    done = np.stack(
        [
            np.linalg.det(drawn.lead) < 0,
            drawn.gamma != 1,
            scaled.factor[:, 0] != 1,
            np.ptp(drawn.factor, axis=1) > 0,
            drawn.bias.any(axis=(1, 2)),
            drawn.kernel.max(axis=1) < 1,
            drawn.noise_std > 0,
        ],
        axis=1,
    )
    together = np.corrcoef(done.astype(float), rowvar=False)
    assert np.abs(together - np.eye(len(together))).max() < 0.15
    assert np.abs(done.mean(axis=0) - [0.5, 0.8, 0.8, 0.8, 0.5, 0.5, 0.5]).max() < 0.07


@pytest.mark.parametrize("kind", CONTRASTIVE)
def test_contrastive_views_are_distributed_as_those_of_monai(kind):
    """Compare with a composition of MONAI's transforms, with the strengths written as literals."""
    case, count = phantom(), 400
    colours = [RandScaleIntensity(factors=0.15, prob=0.8, channel_wise=True)] if kind == "image" else []
    affine = RandAffine(
        prob=1.0,
        rotate_range=np.deg2rad(10),
        translate_range=(0.15 * 96, 0.15 * 96),
        scale_range=((-0.3, 0.0), (-0.3, 0.0)),
        padding_mode="zeros",
    )
    transforms = Compose(
        [
            RandFlip(prob=0.5, spatial_axis=1),
            affine,
            RandAdjustContrast(prob=0.8, gamma=(0.6, 1.7)),
            RandScaleIntensity(factors=0.3, prob=0.8),
            RandBiasField(prob=0.5, degree=2, coeff_range=(-0.2, 0.2)),
            *colours,
            RandGaussianSmooth(sigma_x=(0.25, 1.5), sigma_y=(0.25, 1.5), prob=0.5),
            RandGaussianNoise(prob=0.5, std=0.05),
        ]
    )
    transforms.set_random_state(seed=0)
    shares = torch.from_numpy(case / np.float32(255))
    expected = np.stack([np.asarray(transforms(shares)).clip(0, 1) * 255 for _ in range(count)])
    batch = torch.from_numpy(np.repeat(case[None], count, axis=0))
    assert_same_distribution(batched_views(batch, range(count), CONTRASTIVE[kind]).numpy(), expected)


def test_a_bias_field_is_that_of_monai_with_the_same_coefficients():
    transform, coefficients = RandBiasField(prob=1, degree=2, coeff_range=(-0.4, 0.4)), np.zeros((1, 3, 3))
    before = torch.from_numpy(np.random.default_rng(0).random((1, 2, 40, 29), dtype=np.float32))
    expected = transform.set_random_state(seed=1)(before[0])
    coefficients[0][np.tril_indices(3)] = transform._coeff
    view = before.clone()
    _apply_bias(view, coefficients)
    torch.testing.assert_close(view[0], torch.as_tensor(expected), atol=2e-5, rtol=1e-5, check_dtype=False)
    assert (view - before).abs().max() > 0.01


def test_a_case_that_may_only_be_read_gives_a_contrastive_pair(recwarn):
    channels = CASES["volume"].copy()
    channels.flags.writeable = False
    contrastive_pair(channels, 1, "volume")
    assert not recwarn.list
