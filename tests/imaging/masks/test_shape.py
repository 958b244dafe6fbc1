import numpy as np
import pytest

from pipeline.imaging.masks.shape import OF_IMAGES, OF_VOLUMES, shape_features
from tests.imaging.masks.digital_phantom import INSIDE, SHAPE, TO_MM


def ellipsoid(radii, spacing):
    axes = [np.arange(-np.ceil(radius / step) - 1, np.ceil(radius / step) + 2) * step for radius, step in
            zip(radii, spacing, strict=True)]  # fmt: skip
    grid = np.stack(np.meshgrid(*axes, indexing="ij")) / np.reshape(radii, (-1,) + (1,) * len(radii))
    return (grid**2).sum(axis=0) <= 1


@pytest.mark.parametrize("name", SHAPE)
def test_the_digital_phantom_has_the_values_of_ibsi(name):
    value, tolerance = SHAPE[name]
    assert shape_features(INSIDE, TO_MM)[name] == pytest.approx(value, abs=tolerance)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)])
def test_an_ellipsoid_has_volume_axes_and_diameter_of_its_formulas(spacing):
    radii = (30.0, 20.0, 14.0)
    found = shape_features(ellipsoid(radii, spacing), np.diag(spacing))
    assert found["volume"] == pytest.approx(4 / 3 * np.pi * np.prod(radii), rel=0.02)
    assert found["max_diameter"] == pytest.approx(60, rel=0.03)
    # a solid ellipsoid has the variance r²/5 along an axis, so that IBSI's 4 sqrt(variance) is 4 r / sqrt(5)
    axes = [found[name] for name in ("major_axis", "minor_axis", "least_axis")]
    assert axes == pytest.approx([4 * radius / np.sqrt(5) for radius in radii], rel=0.02)
    assert (found["elongation"], found["flatness"]) == pytest.approx((20 / 30, 14 / 30), rel=0.02)


def test_a_ball_is_rounder_than_a_cube_and_a_cube_than_a_rod():
    ball = shape_features(ellipsoid((20.0,) * 3, (1.0,) * 3), np.eye(3))
    cube = shape_features(np.ones((40, 40, 40), dtype=bool), np.eye(3))
    rod = shape_features(np.ones((4, 4, 80), dtype=bool), np.eye(3))
    assert 1 > ball["sphericity"] > cube["sphericity"] > rod["sphericity"]
    assert cube["sphericity"] == pytest.approx((np.pi / 6) ** (1 / 3), rel=0.02)
    assert cube["surface"] == pytest.approx(6 * 40**2, rel=0.03)
    assert cube["compactness"] == pytest.approx(cube["sphericity"] ** 3)
    assert cube["major_axis"] == pytest.approx(4 * np.sqrt(40**2 / 12), rel=0.01)
    assert cube["max_diameter"] == pytest.approx(np.sqrt(40**2 + 2 * 39**2))


def test_sizes_are_in_millimetres_and_ratios_have_no_unit():
    once, twice = (shape_features(INSIDE, scale * np.eye(3)) for scale in (1.0, 2.0))
    powers = {"volume": 3, "surface": 2, "surface_volume_ratio": -1, "max_diameter": 1, "least_axis": 1}
    for name in OF_VOLUMES:
        assert twice[name] == pytest.approx(once[name] * 2.0 ** powers.get(name, 1 if "axis" in name else 0))


def test_an_ellipse_in_an_image_has_area_axes_and_circularity():
    found = shape_features(ellipsoid((40.0, 25.0), (0.5, 1.0)), np.diag([0.5, 1.0]))
    assert list(found) == list(OF_IMAGES)
    assert found["area"] == pytest.approx(np.pi * 1000, rel=0.01)
    assert [found["major_axis"], found["minor_axis"]] == pytest.approx([80, 50], rel=0.01)  # the variance is r²/4
    disc = shape_features(ellipsoid((40.0, 40.0), (1.0, 1.0)), np.eye(2))
    assert found["circularity"] < disc["circularity"] <= 1


def test_a_single_voxel_has_a_volume_but_no_elongation():
    found = shape_features(np.ones((1, 1, 1), dtype=bool), np.eye(3))
    assert found["volume"] == pytest.approx(1 / 6) and found["max_diameter"] == 1
    assert np.isnan([found["elongation"], found["flatness"]]).all()


def test_regions_that_touch_at_a_corner_are_one():
    inside = np.zeros((5, 5, 5), dtype=bool)
    inside[0, 0, 0] = inside[1, 1, 1] = inside[4, 4, 4] = True
    assert shape_features(inside, np.eye(3))["regions"] == 2
