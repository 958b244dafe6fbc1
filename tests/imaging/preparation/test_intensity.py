import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import NormalizeIntensity
from skimage.filters import threshold_otsu

from pipeline.imaging.preparation.intensity import limits, otsu_threshold, percentiles, scaled


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3000, 3000), min_size=1, max_size=200), st.floats(0, 100))
def test_counting_gives_the_percentiles_that_numpy_gives_by_sorting(values, wanted):
    array = np.array(values, dtype=np.int16)
    assert percentiles(array, (wanted,))[0] == pytest.approx(np.percentile(array, wanted), abs=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_percentiles_do_not_depend_on_how_the_numbers_are_stored(kind):
    values = np.random.default_rng(0).integers(0, 200, (30, 20, 10)).astype(kind)
    np.testing.assert_allclose(percentiles(values, (0.5, 50, 99.5)), np.percentile(values, (0.5, 50, 99.5)))


def test_a_range_too_wide_to_count_is_sorted():
    values = np.array([-(2**30), 0, 5, 2**30], dtype=np.int32)
    np.testing.assert_allclose(percentiles(values, (25.0, 75.0)), np.percentile(values, (25, 75)))


def test_a_z_score_leaves_the_background_out_and_is_monais():
    voxels = np.concatenate([np.zeros(1000), np.random.default_rng(0).normal(100, 10, 1000)]).astype(np.float32)
    ((low, high),) = limits(voxels, "zscore")
    assert low == pytest.approx(70, abs=3) and high == pytest.approx(130, abs=3)
    theirs = np.asarray(NormalizeIntensity(nonzero=True)(voxels.copy()))[1000:]
    np.testing.assert_allclose((voxels[1000:] - (low + high) / 2) / ((high - low) / 6), theirs, atol=1e-4)


def test_values_beyond_the_window_are_clipped_and_an_empty_window_is_black():
    np.testing.assert_allclose(scaled(np.array([-5, 0, 5, 10, 50]), (0, 10)), [0, 0, 127.5, 255, 255])
    assert (scaled(np.array([3, 4]), (7.0, 7.0)) == 0).all()


def test_otsu_separates_as_scikit_image_does():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(20, 5, 5000), rng.normal(120, 20, 2000)])
    assert otsu_threshold(values) == pytest.approx(threshold_otsu(values), abs=1.5)


def test_otsu_separates_numbers_of_32_bits_with_hardly_any_between_them():
    values = np.repeat(np.arange(0, 120, dtype=np.float32), 3)
    assert otsu_threshold(values + np.float32(1e7)) == pytest.approx(otsu_threshold(values) + 1e7, abs=0.5)


def test_percentiles_of_integers_over_all_of_32_bits_do_not_overflow():
    values = np.array([-(2**31), 3, 4, 2**31 - 1] * 25, dtype=np.int32)
    wanted = (0.5, 30.0, 60.0, 99.5)
    assert percentiles(values, wanted) == np.percentile(values.astype(np.float64), wanted).tolist()


def test_a_z_score_of_nothing_but_background_is_black():
    values = np.zeros((3, 3), dtype=np.float32)
    (window,) = limits(values, "zscore")
    assert (scaled(values, window) == 0).all()
