import numpy as np
import pytest

from pipeline.stages.release.corruptions import CORRUPTED


@pytest.fixture
def channels():
    return np.random.default_rng(0).integers(0, 256, (6, 30, 30), dtype=np.uint8)


@pytest.mark.parametrize("kind", CORRUPTED)
def test_a_corruption_keeps_shape_and_type_and_leaves_the_case_unchanged(channels, kind):
    before = channels.copy()
    corrupted = CORRUPTED[kind](channels, np.random.default_rng(1))
    assert corrupted.shape == channels.shape and corrupted.dtype == np.uint8
    assert (corrupted != channels).mean() > 0.5
    np.testing.assert_array_equal(channels, before)
    np.testing.assert_array_equal(corrupted, CORRUPTED[kind](channels, np.random.default_rng(1)))


def test_shuffled_tiles_keep_every_grey_value(channels):
    corrupted = CORRUPTED["shuffled tiles"](channels, np.random.default_rng(1))
    for old, new in zip(channels, corrupted, strict=True):
        np.testing.assert_array_equal(np.sort(old[:28, :28].ravel()), np.sort(new[:28, :28].ravel()))
        np.testing.assert_array_equal(old[28:], new[28:])  # what is no whole tile stays


def test_a_chest_has_dark_lungs_within_a_body_within_air(channels):
    chest = CORRUPTED["simulated chest"](channels, np.random.default_rng(0)).mean(axis=0)
    air, lung, tissue, spine = chest[0, 0], chest[14, 9], chest[17, 15], chest[21, 15]
    assert air < lung < tissue < spine
