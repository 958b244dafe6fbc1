from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.imaging.augmentation.batched import batched_views
from pipeline.imaging.augmentation.per_case import training_view
from pipeline.imaging.augmentation.strengths import CONTRASTIVE, STRONG, TRAINING, Strengths
from tests.imaging.augmentation.moments import assert_same_distribution, phantom

KINDS = ("volume", "image")
NONE = {"volume": Strengths(), "image": Strengths(library="albumentations")}
EVERY = {
    f"{name} {kind}": of[kind]
    for name, of in (("training", TRAINING), ("strong", STRONG), ("contrastive", CONTRASTIVE))
    for kind in KINDS
}


def random_cases(count=4, channels=6, size=32):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, channels, size, size), dtype=np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_whole_numbers_from_0_to_255_of_the_shape_of_the_cases(kind):
    cases = random_cases(8)
    views = batched_views(cases, range(8), TRAINING[kind])
    assert views.shape == cases.shape and views.dtype == torch.float32
    assert (views == views.round()).all()
    assert views.min() >= 0 and views.max() <= 255 and views.std() > 20


@pytest.mark.parametrize("size", [32, 61, 128])
@pytest.mark.parametrize("name", EVERY)
def test_a_case_gets_the_same_bits_alone_as_in_any_batch(name, size):
    cases, seeds = random_cases(12, size=size), range(100, 112)
    together = batched_views(cases, seeds, EVERY[name], windows=2)
    alone = [batched_views(cases[n : n + 1], seeds[n : n + 1], EVERY[name], windows=2) for n in range(12)]
    backwards = batched_views(cases.flip(0), seeds[::-1], EVERY[name], windows=2)
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together, backwards.flip(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_is_drawn_again_from_its_seed_whatever_was_drawn_between(kind):
    cases = random_cases(2)
    first = batched_views(cases, [7, 8], TRAINING[kind])
    torch.manual_seed(1)
    np.random.seed(1)
    others = batched_views(cases, [9, 10], TRAINING[kind])
    assert torch.equal(batched_views(cases, [7, 8], TRAINING[kind]), first)
    assert not torch.equal(others, first)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cases_stay_as_they_are(kind):
    cases = random_cases()
    before = cases.clone()
    batched_views(cases, range(4), TRAINING[kind])
    assert torch.equal(cases, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (224, 224), (30, 50)])
def test_without_any_strength_a_view_is_the_case(kind, size):
    cases = torch.from_numpy(np.random.default_rng(0).integers(10, 200, (2, 3, *size), dtype=np.uint8))
    assert torch.equal(batched_views(cases, [1, 2], NONE[kind]), cases.float())


@pytest.mark.parametrize("kind", KINDS)
def test_a_flip_mirrors_left_to_right_and_nothing_else(kind):
    cases = random_cases()
    mirrored = batched_views(cases, range(4), replace(NONE[kind], flip_chance=1.0))
    assert torch.equal(mirrored, cases.float().flip(-1))


def test_about_half_of_the_views_are_mirrored():
    cases = random_cases(1).expand(400, 6, 32, 32)
    views = batched_views(cases, range(400), replace(NONE["volume"], flip_chance=0.5))
    mirrored = (views == cases.float().flip(-1)).flatten(1).all(dim=1)
    assert (mirrored | (views == cases.float()).flatten(1).all(dim=1)).all()
    assert 160 < mirrored.sum() < 240


@pytest.mark.parametrize("kind", KINDS)
def test_every_channel_of_a_case_is_treated_alike_but_for_its_noise(kind):
    cases = random_cases(16, channels=1).expand(16, 6, 32, 32)
    quiet = batched_views(cases, range(16), replace(TRAINING[kind], noise_chance=0.0))
    noisy = batched_views(cases, range(16), replace(NONE[kind], noise_chance=1.0, noise_std=(0.03, 0.03)))
    assert torch.equal(quiet, quiet[:, :1].expand_as(quiet))
    apart = (noisy[:, 0] - noisy[:, 1]).flatten(1)
    assert (apart.std(dim=1) > 5).all()


@pytest.mark.parametrize("windows", [1, 2])
def test_a_volume_moves_by_at_most_one_slice_and_its_windows_stay_together(windows):
    channels = torch.arange(6, dtype=torch.uint8)[None, :, None, None].expand(60, 6, 8, 8)
    views = batched_views(channels, range(60), replace(NONE["volume"], slices=1), windows)
    found = {tuple(view[:, 0, 0].int().tolist()) for view in views}
    expected = [
        tuple(np.clip(np.arange(6) // windows + step, 0, 6 // windows - 1) * windows + np.arange(6) % windows)
        for step in (-1, 0, 1)
    ]
    assert found == {tuple(map(int, one)) for one in expected}


def test_the_colours_of_an_image_never_change_places():
    channels = (60 + 25 * torch.arange(6, dtype=torch.uint8))[None, :, None, None].expand(60, 6, 32, 32)
    views = batched_views(channels, range(60), replace(TRAINING["image"], noise_chance=0.0))
    assert (views[:, :, 16, 16].diff(dim=1) > 0).all()


def test_what_lies_beyond_the_case_is_black():
    white = torch.full((20, 1, 32, 32), 255, dtype=torch.uint8)
    views = batched_views(white, range(20), replace(NONE["image"], shift_share=0.5))
    assert set(views.unique().tolist()) >= {0.0, 255.0}
    assert (views.flatten(1).min(dim=1).values == 0).float().mean() > 0.8


def test_a_blurred_point_has_the_shape_of_a_gaussian_and_keeps_its_sum():
    point = torch.zeros(1, 1, 15, 15, dtype=torch.uint8)
    point[0, 0, 7, 7] = 255
    point = point.expand(30, 1, 15, 15)
    blurred = batched_views(point, range(30), replace(NONE["image"], blur_chance=1.0, blur_sigma=(1.0, 1.0)))
    widths = {int((view[0, 7] > 0).sum()) for view in blurred}
    five = np.exp(-0.5 * np.arange(-2, 3) ** 2.0)
    three = five[1:4]
    kernels = {5: five / five.sum(), 3: three / three.sum()}
    assert widths == {3, 5}
    for view in blurred[:, 0].numpy():
        kernel = kernels[int((view[7] > 0).sum())]
        reach = len(kernel) // 2
        middle = view[7 - reach : 8 + reach, 7 - reach : 8 + reach]
        np.testing.assert_allclose(middle, 255 * np.outer(kernel, kernel), atol=0.51)


def test_noise_has_the_strength_that_was_asked_for():
    grey = torch.full((40, 1, 64, 64), 128, dtype=torch.uint8)
    views = batched_views(grey, range(40), replace(NONE["volume"], noise_chance=1.0, noise_std=(0.04, 0.04)))
    assert float(views.mean()) == pytest.approx(128, abs=0.2)
    assert views.flatten(1).std(dim=1).numpy() == pytest.approx(np.full(40, 255 * 0.04), rel=0.06)


def test_gamma_keeps_the_extremes_of_a_volume_and_black_and_white():
    ramp = torch.linspace(40, 200, 64).round().to(torch.uint8).reshape(1, 1, 8, 8)
    bent = {
        kind: batched_views(ramp, [0], replace(NONE[kind], gamma_chance=1.0, gamma=(2.0, 2.0)))[0, 0] for kind in KINDS
    }
    grey = ramp[0, 0].float()
    torch.testing.assert_close(bent["volume"], (40 + 160 * ((grey - 40) / 160) ** 2).round(), atol=1, rtol=0)
    torch.testing.assert_close(bent["image"], (255 * (grey / 255) ** 2).round(), atol=1, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_distributed_as_those_drawn_one_by_one(kind):
    case, count = phantom(), 400
    batch = torch.from_numpy(np.repeat(case[None], count, axis=0))
    one_by_one = np.stack([training_view(case, seed, kind) for seed in range(count)]).astype(np.float32)
    assert_same_distribution(batched_views(batch, range(count), TRAINING[kind]).numpy(), one_by_one)


CHANGES = {
    "gamma_chance": {"gamma": (1.3, 1.4)},
    "contrast_chance": {"contrast": 0.2, "brightness": 0.15},
    "factor_chance": {"factor": 0.15},
    "blur_chance": {},
    "noise_chance": {"noise_std": (0.03, 0.03)},
}
DECLARED = {"volume": (0.7, 0, 0.7, 0, 0.5), "image": (0.5, 0.7, 0, 0.15, 0.15)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_as_frequent_as_declared(kind, name):
    cases = torch.from_numpy(np.repeat(phantom(32)[None], 600, axis=0))
    chance = {name: getattr(TRAINING[kind], name)}
    views = batched_views(cases, range(600), replace(NONE[kind], **chance, **CHANGES[name]))
    changed = (views != cases.float()).flatten(1).any(dim=1).float().mean()
    assert float(changed) == pytest.approx(DECLARED[kind][list(CHANGES).index(name)], abs=0.05)


def test_two_seeds_give_two_noises():
    grey = torch.full((2, 1, 32, 32), 128, dtype=torch.uint8)
    first, second = batched_views(grey, [1, 2], replace(NONE["volume"], noise_chance=1, noise_std=(0.04, 0.04)))
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_a_disc_stays_a_disc_when_a_wide_image_is_rotated(kind):
    y, x = np.mgrid[-20:20, -40:40] + 0.5
    disc = torch.from_numpy(np.where(x**2 + y**2 < 15**2, 255, 0).astype(np.uint8))[None, None].expand(10, 1, 40, 80)
    turned = batched_views(disc, range(10), replace(NONE[kind], degrees=60)).numpy()[:, 0]
    assert np.abs(turned - disc[0, 0].numpy()).mean() < 4


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="2 seeds"):
        batched_views(random_cases(3), [1, 2], Strengths())
    with pytest.raises(ValueError, match="float32"):
        batched_views(random_cases(1).float(), [1], Strengths())


def test_a_loss_of_resolution_is_that_of_pillow():
    case = np.random.default_rng(0).integers(0, 256, (1, 64, 64), dtype=np.uint8)
    view = batched_views(torch.from_numpy(case)[None], [0], Strengths(coarse_chance=1.0, coarse=(0.5, 0.5)))[0, 0]
    small = Image.fromarray(case[0].astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR)
    expected = np.asarray(small.resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(view.numpy() - expected).max() < 0.51  # the view is rounded


def test_exponents_drawn_in_the_logarithm_darken_as_often_as_they_brighten():
    grey = torch.full((400, 1, 8, 8), 128, dtype=torch.uint8)
    grey[..., 0, 0], grey[..., 0, 1] = 0, 255
    views = batched_views(grey, range(400), Strengths(gamma_chance=1.0, gamma=(0.4, 2.5), gamma_in_log=True))
    darker = (views[:, 0, 4, 4] < 128).float().mean()
    assert 0.42 < darker < 0.58
    shares = torch.log(views[:, 0, 4, 4] / 255) / np.log(128 / 255)
    assert shares.min() > 0.39 and shares.max() < 2.55
