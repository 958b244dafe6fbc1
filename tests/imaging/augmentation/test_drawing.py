import copy

import numpy as np
import pytest
import torch
from monai.transforms import (
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
)

from pipeline.imaging.augmentation.drawing import drawn

TRANSFORMS = {
    "flip": RandFlip(prob=1, spatial_axis=1),
    "affine": RandAffine(
        prob=1,
        rotate_range=0.4,
        shear_range=(0.2, 0.1),
        translate_range=(5, 9),
        scale_range=((-0.3, 0.2), (-0.2, 0.3)),
        padding_mode="zeros",
    ),
    "affine at the border": RandAffine(prob=1, translate_range=(5, 9), padding_mode="border"),
    "contrast": RandAdjustContrast(prob=1, gamma=(0.6, 1.7)),
    "intensity": RandScaleIntensity(factors=0.3, prob=1),
    "colours": RandScaleIntensity(factors=0.3, prob=1, channel_wise=True),
    "bias": RandBiasField(prob=1, degree=3, coeff_range=(-0.4, 0.4)),
    "smooth": RandGaussianSmooth(sigma_x=(0.1, 3), sigma_y=(0.1, 3), prob=1),
    "noise": RandGaussianNoise(prob=1, mean=0.1, std=0.2),
}


def image(size=(40, 29)):
    return torch.from_numpy(np.random.default_rng(0).random((3, *size), dtype=np.float32))


@pytest.mark.parametrize("size", [(40, 29), (7, 5)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_was_drawn_is_applied_as_monai_applies_it(name, size):
    transform, before = TRANSFORMS[name], image(size)
    for seed in range(8):
        transform.set_random_state(seed=seed)
        view = drawn(transform, before)
        # An affine's own call would draw its placement once more; MONAI takes one that was drawn as a grid.
        grid = transform.rand_affine_grid(size, randomize=False) if isinstance(transform, RandAffine) else None
        expected = transform(before, randomize=False, **({} if grid is None else {"grid": grid}))
        torch.testing.assert_close(view, torch.as_tensor(expected).float(), atol=2e-5, rtol=1e-5, check_dtype=False)
        assert type(view) is torch.Tensor or name == "flip"
        assert (view - before).abs().max() > 0.01
    assert torch.equal(before, image(size))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_is_left_out_as_often_as_it_was_told_to(name):
    transform, before = copy.deepcopy(TRANSFORMS[name]), image((8, 8))
    transform.prob = 0.3
    transform.set_random_state(seed=1)
    left_out = sum(torch.equal(drawn(transform, before), before) for _ in range(300))
    assert 180 < left_out < 240


def test_all_but_the_noise_draws_the_same_numbers_as_monai():
    before = image()
    for name in TRANSFORMS.keys() - {"noise", "affine", "affine at the border"}:  # an affine's call draws twice
        transform = TRANSFORMS[name]
        transform.set_random_state(seed=5)
        view = drawn(transform, before)
        transform.set_random_state(seed=5)
        torch.testing.assert_close(view, torch.as_tensor(transform(before)), atol=2e-5, rtol=1e-5, check_dtype=False)


def test_noise_is_normal_with_a_spread_drawn_anew_up_to_the_one_asked_for():
    transform, black = RandGaussianNoise(prob=1, std=0.2), torch.zeros(2, 64, 64)
    transform.set_random_state(seed=0)
    views = torch.stack([drawn(transform, black) for _ in range(200)]).flatten(1)
    spreads = views.std(dim=1)
    assert spreads.min() < 0.02 and 0.18 < spreads.max() < 0.21
    assert float(spreads.mean()) == pytest.approx(0.1, abs=0.015)
    within = ((views / spreads[:, None]).abs() < 1).float().mean()
    assert float(within) == pytest.approx(0.6827, abs=0.002)
    channels = views.reshape(200, 2, -1)
    assert abs(np.corrcoef(channels[0, 0], channels[0, 1])[0, 1]) < 0.06


def test_an_even_image_keeps_its_grey_value_when_contrast_is_drawn():
    even = torch.full((1, 8, 8), 0.4)
    assert torch.equal(drawn(TRANSFORMS["contrast"], even), even)
