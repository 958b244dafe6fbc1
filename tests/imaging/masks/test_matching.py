import nibabel as nib
import numpy as np
import pytest

from pipeline.imaging.masks.matching import findings_of, on_scan
from pipeline.imaging.masks.reading import Mask
from pipeline.imaging.reading.scan import Header, Scan, Unreadable
from tests.imaging.phantoms import ORIENTATIONS

SPACING = (1.0, 1.0, 2.0)


def scan_of(shape=(24, 30, 16), affine=None):
    affine = np.diag([*SPACING, 1.0]) if affine is None else affine
    return Scan(np.zeros((1, *shape), dtype=np.int16), affine, Header(shape, 1, SPACING, 16))


def rotated(degrees, axis=2):
    turn, angle = np.eye(4), np.deg2rad(degrees)
    first, second = [other for other in range(3) if other != axis]
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    return turn


def ball_on(shape, affine, centre, radius):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(3, -1)
    world = (affine[:3, :3] @ grid + affine[:3, 3:]).reshape(3, *shape)
    return (((world - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0) <= radius**2).astype(np.uint8)


SCAN = scan_of()
BALL = ball_on((24, 30, 16), SCAN.affine, (11, 16, 14), 7)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_grid_of_the_scan_in_any_order_of_axes_is_exact(orientation):
    wanted = nib.orientations.axcodes2ornt(orientation)
    image = nib.Nifti1Image(BALL, SCAN.affine)
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(SCAN.affine), wanted))
    found = on_scan(Mask(np.asarray(turned.dataobj), turned.affine), SCAN)
    assert np.array_equal(found, BALL > 0)


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((48, 60, 32), np.diag([0.5, 0.5, 1.0, 1.0])),  # finer
        ((24, 30, 40), np.diag([1.0, 1.0, 0.8, 1.0])),  # other slices
        ((16, 16, 16), np.array([[1.0, 0, 0, 4], [0, 1, 0, 8], [0, 0, 1, 6], [0, 0, 0, 1]])),  # a box around it
    ],
)
def test_a_mask_on_another_grid_is_resampled_to_the_scan(shape, affine):
    found = on_scan(Mask(ball_on(shape, affine, (11, 16, 14), 7), affine), SCAN)
    both = (found & (BALL > 0)).sum()
    assert 2 * both / (found.sum() + (BALL > 0).sum()) > 0.93


def test_an_oblique_mask_lands_where_the_scan_shows_it():
    oblique = rotated(25) @ np.diag([1.0, 1.0, 1.0, 1.0])
    oblique[:3, 3] = np.array([11, 16, 14]) - oblique[:3, :3] @ np.array([14, 14, 14])
    found = on_scan(Mask(ball_on((29, 29, 29), oblique, (11, 16, 14), 7), oblique), SCAN)
    assert 2 * (found & (BALL > 0)).sum() / (found.sum() + (BALL > 0).sum()) > 0.93


def test_an_oblique_scan_takes_its_own_mask_and_an_upright_one():
    affine = rotated(20, axis=0) @ np.diag([*SPACING, 1.0])
    scan = scan_of(affine=affine)
    centre = affine[:3, :3] @ np.array([11, 15, 8])
    own = ball_on((24, 30, 16), affine, centre, 7)
    assert np.array_equal(on_scan(Mask(own, affine), scan), own > 0)
    upright = np.eye(4)
    upright[:3, 3] = centre - 20
    found = on_scan(Mask(ball_on((41, 41, 41), upright, centre, 7), upright), scan)
    assert 2 * (found & (own > 0)).sum() / (found.sum() + own.sum()) > 0.93


@pytest.mark.parametrize(
    ("shape", "moved", "why"),
    [
        ((24, 30, 16), (3.0, 0, 0), "lies elsewhere"),
        ((24, 30, 20), (100.0, 0, 0), "fields of view have little in common"),
        ((24, 30, 20), (6.0, 5.0, 0), "marked voxels lie outside of the scan"),
    ],
)
def test_a_mask_of_another_scan_is_refused_with_both_affines(shape, moved, why):
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = moved
    with pytest.raises(Unreadable, match=why) as error:
        on_scan(Mask(np.ones(shape, dtype=np.uint8), affine), SCAN)
    assert error.value.finding.check == "mask of another scan"
    assert f"affine of the mask [1 0 0 {moved[0]:g}; 0 1 0 {moved[1]:g}" in error.value.finding.detail
    assert "of the scan [1 0 0 0; 0 1 0 0; 0 0 2 0]" in error.value.finding.detail


def test_a_slightly_turned_grid_of_the_same_size_is_another_scan():
    with pytest.raises(Unreadable, match="lies elsewhere"):
        on_scan(Mask(BALL, rotated(4) @ SCAN.affine), SCAN)


def test_rounding_of_an_affine_is_no_other_scan():
    affine = SCAN.affine + np.random.default_rng(0).normal(0, 1e-3, (4, 4)) * [[1], [1], [1], [0]]
    assert np.array_equal(on_scan(Mask(BALL, affine), SCAN), BALL > 0)


def test_a_mask_of_an_image_needs_its_rows_and_columns():
    image = Scan(np.zeros((3, 20, 30), dtype=np.uint8), np.eye(4), Header((20, 30), 3, (1.0, 1.0), 8))
    assert on_scan(Mask(np.ones((20, 30), dtype=np.uint8), np.eye(4)), image).all()
    with pytest.raises(Unreadable, match="the mask has 30 x 20 pixels, but the scan has 20 x 30"):
        on_scan(Mask(np.ones((30, 20), dtype=np.uint8), np.eye(4)), image)


def test_only_the_wanted_labels_count_and_little_is_told():
    labels = np.zeros((24, 30, 16), dtype=np.uint8)
    labels[5:10, 5:10, 5:10], labels[12, 12, 12] = 1, 2
    mask = Mask(labels, SCAN.affine)
    assert on_scan(mask, SCAN).sum() == 126 and on_scan(mask, SCAN, [1]).sum() == 125
    assert not findings_of(on_scan(mask, SCAN))
    assert findings_of(on_scan(mask, SCAN, [2]))[0].check == "mask tiny"
    [empty] = findings_of(on_scan(mask, SCAN, [3]), [3])
    assert empty.check == "mask empty" and "3 of cohort.mask_labels" in empty.detail and empty.action == "warned"


def test_a_mask_that_fills_its_own_grid_keeps_every_voxel():
    """Voxel sizes that have no exact binary fraction put the last voxels a rounding error outside of the grid."""
    spacing = np.float32([0.7, 0.9, 2.3]).astype(float)
    scan = scan_of(affine=np.diag([*spacing, 1.0]))
    start, size = np.array([5, 7, 4]), (4, 4, 4)
    own = np.diag([*spacing, 1.0])
    own[:3, 3] = (spacing * start).astype(np.float32)
    found = on_scan(Mask(np.ones(size, dtype=np.uint8), own), scan)
    assert found.sum() == 64 and found[5:9, 7:11, 4:8].all()
