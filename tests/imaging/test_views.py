import numpy as np
import pytest

from pipeline.imaging.views import adaptation_view, training_view

CASES = {
    "volume": np.random.default_rng(0).integers(0, 255, (6, 32, 32), dtype=np.uint8),
    "picture": np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8),
    "grey": np.random.default_rng(0).integers(0, 255, (1, 32, 32), dtype=np.uint8),
}


@pytest.mark.parametrize("name", CASES)
def test_a_view_is_drawn_again_from_its_seed_whatever_was_drawn_between(name):
    planes, kind = CASES[name], "volume" if name == "volume" else "picture"
    first = training_view(planes, 7, kind)
    others = [training_view(planes, seed, kind) for seed in range(5)]
    np.testing.assert_array_equal(training_view(planes, 7, kind), first)
    assert any((other != first).any() for other in others)
    assert first.shape == planes.shape and first.dtype == np.uint8


def test_an_adaptation_view_is_drawn_again_from_its_seed():
    first = adaptation_view(CASES["volume"], 3)
    adaptation_view(CASES["volume"], 4)
    np.testing.assert_array_equal(adaptation_view(CASES["volume"], 3), first)


def test_the_planes_of_a_volume_are_moved_together():
    planes = np.repeat(CASES["volume"][:1], 6, axis=0)
    view = adaptation_view(planes, 5)
    assert (view == view[0]).all()
    assert (view != planes).any()


def test_the_case_itself_stays_as_it_is():
    planes = CASES["volume"].copy()
    training_view(planes, 1, "volume")
    np.testing.assert_array_equal(planes, CASES["volume"])
