from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from monai.data import get_track_meta

from pipeline.imaging.augmentation.views import (
    _contrastive_transforms,
    adaptation_view,
    contrastive_pair,
    training_view,
)

CASES = {
    "volume": np.random.default_rng(0).integers(0, 255, (6, 32, 32), dtype=np.uint8),
    "image": np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8),
    "grey": np.random.default_rng(0).integers(0, 255, (1, 32, 32), dtype=np.uint8),
}


@pytest.mark.parametrize("name", CASES)
def test_a_view_is_drawn_again_from_its_seed_whatever_was_drawn_between(name):
    channels, kind = CASES[name], "volume" if name == "volume" else "image"
    first = training_view(channels, 7, kind)
    others = [training_view(channels, seed, kind) for seed in range(5)]
    np.testing.assert_array_equal(training_view(channels, 7, kind), first)
    assert any((other != first).any() for other in others)
    assert first.shape == channels.shape and first.dtype == np.uint8


def test_an_adaptation_view_is_drawn_again_from_its_seed():
    first = adaptation_view(CASES["volume"], 3)
    adaptation_view(CASES["volume"], 4)
    np.testing.assert_array_equal(adaptation_view(CASES["volume"], 3), first)


def test_the_channels_of_a_volume_are_moved_together():
    channels = np.repeat(CASES["volume"][:1], 6, axis=0)
    view = adaptation_view(channels, 5)
    assert (view == view[0]).all()
    assert (view != channels).any()


def test_the_case_itself_stays_as_it_is():
    channels = CASES["volume"].copy()
    training_view(channels, 1, "volume")
    np.testing.assert_array_equal(channels, CASES["volume"])


@pytest.mark.parametrize("name", CASES)
def test_two_strong_views_are_drawn_again_from_their_seed_and_differ(name):
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


def strong_views(channels, kind="image", seeds=30, windows=1):
    return [view for seed in range(seeds) for view in contrastive_pair(channels, seed, kind, windows)]


def centre_of(view):
    return np.argwhere(view[0] > 75).mean(axis=0)


def test_strong_views_mirror_left_to_right_and_never_top_to_bottom():
    channels = np.zeros((1, 64, 64), dtype=np.uint8)
    channels[0, 12:22, 12:22] = 255
    centres = np.array([centre_of(view) for view in strong_views(channels)])
    assert (centres[:, 0] < 32).all()
    assert 10 < (centres[:, 1] < 32).sum() < 50


def test_strong_views_show_between_half_of_the_image_and_all_of_it():
    channels = np.zeros((1, 64, 64), dtype=np.uint8)
    channels[0, 22:42, 22:42] = 255
    areas = np.array([(view[0] > 75).sum() for view in strong_views(channels)]) / 400
    assert areas.min() > 0.9 and areas.max() < 1 / 0.49 + 0.2
    assert areas.max() > 1.5


def test_strong_views_change_brightness_contrast_and_sharpness():
    channels = np.full((1, 64, 64), 60, dtype=np.uint8)
    channels[0, :, ::2] = 180
    middle = np.array([view[0, 28:36, 28:36] for view in strong_views(channels)], dtype=float)
    levels, contrasts = middle.mean(axis=(1, 2)), middle.std(axis=(1, 2))
    assert levels.max() > 1.4 * levels.min()
    assert contrasts.max() > 3 * contrasts.min()


def test_the_channels_of_a_volume_differ_in_strong_views_by_noise_only():
    channels = np.repeat(CASES["volume"][:1], 6, axis=0)
    apart = [np.abs(view.astype(float) - view[0]).mean() for view in strong_views(channels, "volume")]
    assert min(apart) == 0 and max(apart) < 20


def test_only_the_colours_of_a_image_are_scaled_each_by_itself():
    grey = np.full((3, 32, 32), 120, dtype=np.uint8)
    for kind, expected in (("image", True), ("volume", False)):
        middles = [view[:, 12:20, 12:20].mean(axis=(1, 2)) for view in strong_views(grey, kind)]
        assert any(np.ptp(middle) > 10 for middle in middles) == expected


@pytest.mark.parametrize("windows", [1, 2])
def test_a_neighbouring_slice_counts_as_the_same_in_a_volume_and_its_windows_stay_together(windows):
    channels = np.full((6, 32, 32), 200, dtype=np.uint8)
    channels[:windows] = 0
    bright = [
        (view[:, 12:20, 12:20].mean(axis=(1, 2)) > 75).tolist()
        for view in strong_views(channels, "volume", 10, windows)
    ]
    assert {tuple(one) for one in bright} == {(False,) * n + (True,) * (6 - n) for n in (0, windows, 2 * windows)}
    assert all(not view[:windows, 12:20, 12:20].mean() > 75 for view in strong_views(channels, "image", 10))


def test_a_case_stays_as_it_is_when_strong_views_are_drawn():
    channels = CASES["volume"].copy()
    contrastive_pair(channels, 1, "volume")
    np.testing.assert_array_equal(channels, CASES["volume"])


def test_every_step_of_a_strong_view_is_drawn_by_itself():
    channels, steps = CASES["grey"][:, :8, :8], _contrastive_transforms("image", (8, 8))
    done = []
    for seed in range(150):
        contrastive_pair(channels, seed, "image")
        done.append([step._do_transform for step in steps if step.prob < 1])
    together = np.corrcoef(np.array(done, dtype=float), rowvar=False)
    assert np.abs(together - np.eye(len(together))).max() < 0.3
    assert np.abs(np.mean(done, axis=0) - [0.5, 0.8, 0.8, 0.5, 0.8, 0.5, 0.5]).max() < 0.13


def test_threads_that_draw_at_the_same_time_draw_what_each_would_alone():
    channels, seeds = CASES["image"], range(40)
    alone = [(contrastive_pair(channels, seed, "image"), training_view(channels, seed, "volume")) for seed in seeds]
    with ThreadPoolExecutor(2) as threads:
        pairs = threads.map(lambda seed: contrastive_pair(channels, seed, "image"), seeds)
        views = threads.map(lambda seed: training_view(channels, seed, "volume"), seeds)
        together = list(zip(pairs, views, strict=True))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(np.stack([*one[0], one[1]]), np.stack([*other[0], other[1]]))


def test_monai_tracks_metadata_for_others_after_a_view_was_drawn_or_could_not_be():
    assert get_track_meta()
    contrastive_pair(CASES["image"], 1, "image")
    with pytest.raises(RuntimeError, match="RandFlip"):
        adaptation_view(np.zeros((3,), dtype=np.uint8), 1)
    assert get_track_meta()


def test_a_case_that_may_only_be_read_can_be_viewed(recwarn):
    channels = CASES["volume"].copy()
    channels.flags.writeable = False
    adaptation_view(channels, 1)
    contrastive_pair(channels, 1, "volume")
    assert not recwarn.list
