import numpy as np
import pytest

from pipeline.imaging.preparation.intensity import scaled
from pipeline.stages.preprocess.contrast import lost_contrast

NOISE = np.random.default_rng(0).normal(500, 100, (60, 60))


def stored(values, window):
    return np.rint(scaled(values, window)).astype(np.uint8)


@pytest.mark.parametrize("window", [(0, 65535), (-32768, 1000), (2000, 4000), (-100, -50)])
def test_a_window_that_leaves_nothing_is_reported(window):
    finding = lost_contrast(NOISE, stored(NOISE, window))
    assert finding.check == "contrast" and finding.parameter == "preprocess.intensity"


@pytest.mark.parametrize("window", [(300, 700), (0, 1000), (500, 1000)])
def test_a_window_that_shows_the_scan_is_fine(window):
    assert lost_contrast(NOISE, stored(NOISE, window)) is None


def test_a_small_image_on_a_black_square_is_fine():
    square = np.zeros((600, 60), np.uint8)
    square[:60, :60] = stored(NOISE, (200, 800))
    assert lost_contrast(NOISE, square) is None


def test_few_values_are_not_checked():
    assert lost_contrast(np.arange(60), np.zeros((4, 4), np.uint8)) is None


@pytest.mark.parametrize("shape", [(96, 128, 128), (48, 96, 96), (1, 1024, 1024)])
def test_black_borders_of_volumes_are_not_taken_for_lost_contrast(shape):
    """Each so many-th value of these shapes lies in one column, which is background."""
    volume = np.zeros(shape)
    _, rows, columns = shape
    volume[:, rows // 8 : -rows // 8, columns // 8 : -columns // 8] = np.random.default_rng(0).normal(
        500, 100, (shape[0], rows - rows // 8 * 2, columns - columns // 8 * 2)
    )
    assert lost_contrast(volume, (np.clip(volume, 0, 1000) / 4).astype(np.uint8)) is None
    assert lost_contrast(volume, np.zeros(shape, np.uint8)) is not None
