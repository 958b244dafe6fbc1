import numpy as np
import pytest

from pipeline.imaging.appearance import appearance
from pipeline.stages.release.corruptions import CORRUPTED

GREYS, STEPS, SPREAD, NEXT, BLOCKS = slice(0, 7), slice(7, 9), 9, slice(10, 12), slice(12, 28)


def scan(side=30):
    """Draw two channels that grow brighter to the right, with a bright corner on top."""
    channel = np.tile(np.linspace(20, 120, side), (side, 1))
    channel[: side // 4, -(side // 4) :] = 250
    return np.stack([channel, channel]).astype(np.uint8)


def test_each_number_has_its_documented_meaning():
    found = appearance(scan())
    greys = scan().astype(float)
    np.testing.assert_allclose(found[GREYS], np.quantile(greys, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]))
    np.testing.assert_allclose(np.expm1(found[STEPS]), [np.abs(np.diff(greys, axis=one)).mean() for one in (1, 2)])
    assert np.expm1(found[SPREAD]) == pytest.approx(greys.std())
    assert (found[NEXT] > 0.8).all() and (found[NEXT] < 1.1).all()
    blocks = found[BLOCKS].reshape(4, 4)
    assert blocks[0, 3] == blocks.max() and blocks[0, 0] == pytest.approx(greys[0, :7, :7].mean())


def test_blank_and_smallest_scans_have_finite_numbers():
    assert np.isfinite(appearance(np.zeros((1, 9, 9), np.uint8))).all()
    assert np.isfinite(appearance(scan(4))).all()


@pytest.mark.parametrize("kind", CORRUPTED)
def test_every_way_to_corrupt_a_scan_shows(kind):
    corrupted = CORRUPTED[kind](scan(32), np.random.default_rng(0))
    assert np.abs(appearance(corrupted) - appearance(scan(32))).max() > 1
