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
