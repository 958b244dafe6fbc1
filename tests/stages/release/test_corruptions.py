import numpy as np
import pytest

from pipeline.stages.release.corruptions import SPOILT


@pytest.fixture
def planes():
    return np.random.default_rng(0).integers(0, 256, (6, 30, 30), dtype=np.uint8)


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_case_has_the_same_planes_by_size_and_type_but_not_by_content_and_the_case_stays(planes, kind):
    before = planes.copy()
    spoilt = SPOILT[kind](planes, np.random.default_rng(1))
    assert spoilt.shape == planes.shape and spoilt.dtype == np.uint8
    assert (spoilt != planes).mean() > 0.5
    np.testing.assert_array_equal(planes, before)
    np.testing.assert_array_equal(spoilt, SPOILT[kind](planes, np.random.default_rng(1)))


def test_shuffled_tiles_keep_every_grey_value(planes):
    spoilt = SPOILT["shuffled tiles"](planes, np.random.default_rng(1))
    for old, new in zip(planes, spoilt, strict=True):
        np.testing.assert_array_equal(np.sort(old[:28, :28].ravel()), np.sort(new[:28, :28].ravel()))
        np.testing.assert_array_equal(old[28:], new[28:])  # what is no whole tile stays


def test_a_chest_has_dark_lungs_within_a_body_within_air(planes):
    chest = SPOILT["simulated chest"](planes, np.random.default_rng(0)).mean(axis=0)
    air, lung, tissue, spine = chest[0, 0], chest[14, 9], chest[17, 15], chest[21, 15]
    assert air < lung < tissue < spine
