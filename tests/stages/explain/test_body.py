import numpy as np
import pytest

from pipeline.stages.explain.body import background, outside


def head(brightness=200, noise=12):
    """A bright disc with a dark hole, on noisy black; two slices in grey."""
    rows, columns = np.mgrid[:64, :64] - 32
    far = np.hypot(rows, columns)
    disc = np.where((far < 22) & (far > 5), brightness, 0) + np.random.default_rng(0).integers(0, noise, (2, 64, 64))
    return np.repeat(disc.astype(np.uint8)[..., None], 3, axis=-1), far


def test_a_dark_hole_within_the_body_belongs_to_it():
    images, far = head()
    found = background(images)
    assert (found == (far >= 22)).all()


def test_the_share_outside_is_that_of_the_mass_of_the_maps():
    images, far = head()
    inside, around = (far < 22).astype(np.float32), (far >= 22).astype(np.float32)
    assert outside(np.stack([inside, inside]), images) == {"outside": 0, "background": pytest.approx(around.mean())}
    assert outside(np.stack([around, around]), images)["outside"] == 1
    quarter = np.stack([inside / inside.sum(), inside / inside.sum() + 2 / 3 * around / around.sum()])
    assert outside(quarter.astype(np.float32), images)["outside"] == pytest.approx(0.25, abs=1e-5)


def test_nothing_is_said_without_a_map_or_without_a_background():
    images, _ = head()
    maps, filled = np.ones((2, 64, 64), np.float32), np.full_like(images, 200)
    filled[:, 28:36, 28:36] = 0
    for given in ((0 * maps, images), (maps, 255 - images), (maps, filled)):  # no map; bright around; no background
        assert outside(*given) == {"outside": None, "background": None}
