import pytest

from pipeline.imaging.geometry import Geometry, reference_passes
from pipeline.imaging.sizing import resolve_geometry
from pipeline.imaging.volumes import Header

HEAD = Header((93, 114, 38), 1, (1.9, 1.9, 4.5), 16)
PICTURE = Header((300, 400), 1, (1.0, 1.0), 8)


def test_a_volume_is_stored_as_finely_as_it_was_scanned():
    geometry = resolve_geometry([HEAD] * 10, budget=10**9)
    assert (geometry.kind, geometry.image_size, geometry.slices, geometry.channels) == ("volume", 128, 16, 3)
    assert geometry.spacing[0] * geometry.image_size == pytest.approx(114 * 1.9, abs=0.1)
    assert geometry.spacing[2] * geometry.planes == pytest.approx(38 * 4.5, abs=0.1)


def test_the_budget_decides_how_fine_and_is_kept():
    for budget in (20_000, 100_000, 10**6):
        geometry = resolve_geometry([HEAD] * 111, budget)
        assert reference_passes(111, geometry.image_size, geometry.slices) <= budget


def test_more_budget_never_gives_a_coarser_grid():
    sizes = [resolve_geometry([PICTURE] * 700, budget).image_size for budget in (1_000, 30_000, 60_000, 10**6)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == 224


def test_what_the_user_gives_is_taken():
    geometry = resolve_geometry([HEAD], 1, image_size=160, slices=8, intensity=(0.0, 80.0))
    assert (geometry.image_size, geometry.slices, geometry.intensity) == (160, 8, (0.0, 80.0))


def test_one_colour_picture_makes_a_colour_cohort_and_one_deep_picture_a_rescaled_one():
    assert resolve_geometry([PICTURE, Header((9, 9), 4, (1.0, 1.0), 8)], 10**6).channels == 3
    assert resolve_geometry([PICTURE], 10**6).intensity == "keep"
    assert resolve_geometry([PICTURE, Header((9, 9), 1, (1.0, 1.0), 16)], 10**6).intensity == "percentile"


def test_a_mixture_of_volumes_and_pictures_is_refused():
    with pytest.raises(ValueError, match="mixes volumes and pictures"):
        resolve_geometry([HEAD, PICTURE], 10**6)


def test_geometry_survives_json():
    geometry = resolve_geometry([HEAD], 10**6, intensity=(-1000.0, 400.0))
    assert (
        Geometry.from_json({k: list(v) if isinstance(v, tuple) else v for k, v in geometry.as_json().items()})
        == geometry
    )
