import numpy as np
import pytest
from skimage.measure import marching_cubes, mesh_surface_area

from pipeline.imaging.masks.mesh import mesh_of
from tests.imaging.masks.digital_phantom import INSIDE


def by_skimage(inside, spacing):
    corners, triangles, _, _ = marching_cubes(np.pad(inside, 1).astype(float), 0.5, spacing=spacing, method="lorensen")
    a, b, c = (corners[triangles[:, number]].astype(float) for number in range(3))
    return abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6), mesh_surface_area(corners, triangles)


def ball(radius, spacing=(1.0, 1.0, 1.0)):
    grid = np.stack(np.meshgrid(*(np.arange(-radius, radius + step, step) for step in spacing), indexing="ij"))
    return (grid**2).sum(axis=0) <= radius**2


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5)])
def test_volume_and_surface_equal_those_of_scikit_image(spacing):
    box = np.ones((3, 4, 5), dtype=bool)
    for inside, tolerance in ((INSIDE, 1e-5), (box, 1e-5), (ball(9.0, spacing), 0.01)):  # other triangles of a ball
        mesh = mesh_of(inside, np.diag(spacing))
        assert (mesh.content, mesh.boundary) == pytest.approx(by_skimage(inside, spacing), rel=tolerance)


def test_a_rotated_or_mirrored_grid_changes_no_size():
    rng = np.random.default_rng(0)
    inside, turn = rng.random((8, 9, 7)) < 0.4, np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for sign in (1.0, -1.0):
        mesh, turned = mesh_of(inside, 2 * np.eye(3)), mesh_of(inside, sign * 2 * turn)
        assert turned.content == pytest.approx(mesh.content)
        assert turned.boundary == pytest.approx(mesh.boundary)


def test_regions_apart_add_up_and_holes_are_taken_off():
    one, cube = np.zeros((7, 7, 16), dtype=bool), np.zeros((7, 7, 7), dtype=bool)
    cube[1:6, 1:6, 1:6] = True
    one[:, :, :7], one[:, :, 9:] = cube, cube
    single = mesh_of(cube, np.eye(3))
    assert mesh_of(one, np.eye(3)).content == pytest.approx(2 * single.content)
    hollow = cube.copy()
    hollow[3, 3, 3] = False
    octahedron = 4 / 3 * 0.5**3
    assert single.content - mesh_of(hollow, np.eye(3)).content == pytest.approx(octahedron)


def test_a_rectangle_of_pixels_lacks_its_four_corners():
    mesh = mesh_of(np.ones((4, 6), dtype=bool), np.diag([2.0, 3.0]))
    assert mesh.content == pytest.approx(4 * 6 * 6 - 4 * 6 / 8)
    assert mesh.boundary == pytest.approx(2 * 3 * 2 + 2 * 5 * 3 + 4 * np.hypot(1, 1.5))


def test_a_sheared_grid_has_the_volume_of_its_determinant():
    inside, shear = np.ones((5, 5, 5), dtype=bool), np.array([[1.0, 0, 0.3], [0, 1, 0.2], [0, 0, 2]])
    assert mesh_of(inside, shear).content == pytest.approx(2 * mesh_of(inside, np.eye(3)).content)
