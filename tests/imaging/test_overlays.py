"""Overlays show a lesion at its position in millimetres, by a network that sees only brightness."""

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.overlays import on_slices, write_overlay
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.learning.models.saliency import saliency
from tests.learning.models.blob import blob_network

VOLUME = Geometry(
    "volume", image_size=48, slices=24, channels=1, spacing=(2.0, 2.0, 2.5), fit="pad", intensity=((0.0, 1000.0),)
)
LESION = np.array([14.0, -9.0, 6.0])  # millimetres: right, behind, above
RADIUS = 7.0


def turned(degrees):
    """Rotate about two axes, as an oblique slab lies in the scanner."""
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


def scan_with_lesion(file, orientation, degrees, spacing=(1.6, 1.4, 2.2)):
    """Sample a dim ball with a bright lesion on a grid of the given orientation and tilt."""
    shape = np.array([60, 64, 44])
    affine = np.eye(4)
    affine[:3, :3] = turned(degrees) @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    places = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    head = 300.0 * (np.linalg.norm(places, axis=-1) < 38)
    head[np.linalg.norm(places - LESION, axis=-1) < RADIUS] = 1000
    image = nib.Nifti1Image(head.astype(np.int16), affine)
    wanted = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(orientation))
    nib.save(image.as_reoriented(wanted), file)
    return file


@pytest.mark.parametrize(("orientation", "degrees"), [("RAS", 0), ("LPS", 12), ("PSL", 20), ("IAR", -17)])
def test_the_map_of_a_lesion_lies_at_its_position_on_the_grid_of_the_scan(tmp_path, orientation, degrees):
    file = scan_with_lesion(tmp_path / "a.nii.gz", orientation, degrees)
    prepared = Preprocessor(VOLUME).prepare_file(file)
    found = saliency(blob_network(), torch.from_numpy(prepared.channels)[None], asked=1)
    written = nib.load(write_overlay(found.maps, prepared.placement, VOLUME, tmp_path / "map"))
    scan = nib.load(file)
    assert written.shape == scan.shape
    np.testing.assert_allclose(written.affine, scan.affine, atol=1e-6)
    mass = written.get_fdata()
    places = nib.affines.apply_affine(written.affine, np.moveaxis(np.indices(mass.shape), 0, -1))
    centre = (places * mass[..., None]).sum(axis=(0, 1, 2)) / mass.sum()
    assert np.linalg.norm(centre - LESION) < 3  # millimetres; a pixel of the map is 8 mm wide
    assert mass[np.linalg.norm(places - LESION, axis=-1) < RADIUS + 4].sum() > 0.8 * mass.sum()


def test_the_map_of_an_image_has_its_size_and_the_blob_in_place(tmp_path):
    pixels = np.full((60, 90), 40, dtype=np.uint8)
    pixels[10:25, 60:75] = 250
    Image.fromarray(pixels).save(tmp_path / "a.png")
    geometry = Geometry("image", image_size=48, slices=1, channels=1, spacing=None, fit="pad", intensity="keep")
    prepared = Preprocessor(geometry).prepare_file(tmp_path / "a.png")
    found = saliency(blob_network(), torch.from_numpy(prepared.channels)[None], asked=1)
    file = write_overlay(found.maps, prepared.placement, geometry, tmp_path / "map")
    shown = np.asarray(Image.open(file))
    assert shown.shape == pixels.shape and shown.max() > 200
    rows, columns = (np.average(index, weights=shown) for index in np.indices(shown.shape))
    assert abs(rows - 17) < 2 and abs(columns - 67) < 2


@pytest.mark.parametrize(("instances", "channels", "windows"), [(4, 3, 1), (4, 6, 2), (12, 3, 1)])
def test_every_stored_slice_has_the_map_of_its_instance(instances, channels, windows):
    intensity = tuple((0.0, 1.0 + number) for number in range(windows))
    slices = 4
    geometry = Geometry(
        "volume", image_size=8, slices=slices, channels=channels, spacing=(1, 1, 1), fit="pad", intensity=intensity
    )
    maps = np.arange(instances, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), dtype=np.float32)
    found = on_slices(maps, geometry)
    assert len(found) == geometry.depth == 12
    np.testing.assert_array_equal(found[:, 0, 0], np.arange(12) // (12 // instances))


def test_an_image_in_colour_has_one_map():
    geometry = Geometry("image", image_size=8, slices=1, channels=3, spacing=None, fit="pad", intensity="keep")
    assert on_slices(np.ones((1, 8, 8), dtype=np.float32), geometry).shape == (1, 8, 8)
