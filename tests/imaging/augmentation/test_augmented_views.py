"""Views of a case: the case itself, its mirror image and training views, each with a name for the cache."""

import numpy as np
import pytest

from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import Geometry
from pipeline.seeds import seed_for

GEOMETRY = Geometry(kind="image", image_size=8, slices=1, channels=3, spacing=None, fit="pad", intensity="keep")
CASES = {name: np.random.default_rng(number).integers(0, 256, (3, 8, 8), np.uint8) for number, name in enumerate("ab")}


@pytest.fixture
def views():
    return AugmentedViews(CASES.__getitem__, lambda *names: seed_for(0, *names), GEOMETRY)


def test_the_case_comes_first_then_its_mirror_image_then_drawn_views(views):
    case, mirrored, drawn = (draw() for draw in views.parts("a", 2, mirrored=True).values())
    assert np.array_equal(case, CASES["a"][None])
    assert np.array_equal(mirrored, CASES["a"][None, ..., ::-1])
    assert np.array_equal(drawn, views.augmented("a", 2)) and drawn.shape == (2, 3, 8, 8)


def test_a_case_has_the_same_name_whatever_views_stand_beside_it(views):
    names = [next(iter(views.named_parts("a", count, mirrored))) for count in (0, 2) for mirrored in (False, True)]
    assert len(set(names)) == 1
    assert not set(views.named_parts("a", 2, mirrored=True)) & set(views.named_parts("b", 2, mirrored=True))
    assert not {*list(views.named_parts("a", 2))[1:]} & {*list(views.named_parts("a", 3))[1:]}


def test_other_content_has_another_name(views):
    before = set(views.named_parts("a", 1))
    changed = AugmentedViews(lambda name: CASES[name] ^ 1, views.seed_of, GEOMETRY)
    assert not before & set(changed.named_parts("a", 1))


def test_views_without_a_name_for_a_cache_do_not_read_the_case(views):
    read = []
    watched = AugmentedViews(lambda name: (read.append(name), CASES[name])[1], views.seed_of, GEOMETRY)
    parts = watched.parts("a", 2, mirrored=True)
    assert not read
    named = watched.named_parts("a", 2, mirrored=True)
    drawn = [[draw() for draw in one.values()] for one in (parts, named)]
    assert read and all(np.array_equal(one, other) for one, other in zip(*drawn, strict=True))
