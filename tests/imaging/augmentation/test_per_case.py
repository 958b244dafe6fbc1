from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from monai.data import get_track_meta

from pipeline.imaging.augmentation.per_case import adaptation_view, training_view

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


def test_threads_that_draw_at_the_same_time_draw_what_each_would_alone():
    channels, seeds = CASES["image"], range(40)

    def both(seed):
        return np.stack([training_view(channels, seed, kind) for kind in ("image", "volume")])

    alone = [both(seed) for seed in seeds]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(both, seeds))
    np.testing.assert_array_equal(np.stack(alone), np.stack(together))


def test_monai_tracks_metadata_after_a_view_was_drawn_or_failed():
    assert get_track_meta()
    adaptation_view(CASES["image"], 1)
    with pytest.raises(RuntimeError, match="RandFlip"):
        adaptation_view(np.zeros((3,), dtype=np.uint8), 1)
    assert get_track_meta()


def test_a_case_that_may_only_be_read_can_be_viewed(recwarn):
    channels = CASES["volume"].copy()
    channels.flags.writeable = False
    adaptation_view(channels, 1)
    training_view(channels, 1, "volume")
    assert not recwarn.list
