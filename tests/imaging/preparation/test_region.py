from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.preparation.region import MaskUse, box_around
from pipeline.imaging.reading.scan import Unreadable

VOLUME = Geometry("volume", 48, 12, 1, (2.0, 2.0, 3.0), "pad", "percentile")
SPOT = (slice(9, 16), slice(20, 29), slice(5, 10))


def scan_and_mask(folder, orientation="RAS", turn=0.0, shear=0.0):
    """Write a volume with a bright box, and the mask of the box, in an orientation, rotated or with a tilted gantry."""
    rng = np.random.default_rng(0)
    voxels = rng.normal(100, 5, (30, 40, 16))
    inside = np.zeros(voxels.shape, dtype=np.uint8)
    inside[SPOT] = 1
    voxels[SPOT] += 100
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    angle = np.deg2rad(turn)
    affine[:2, :2] = 2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine[1, 2] = 3 * shear
    for name, values in (("scan", voxels.astype(np.float32)), ("mask", inside)):
        image = nib.Nifti1Image(values, affine)
        wanted = nib.orientations.axcodes2ornt(orientation)
        image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), wanted))
        nib.save(image, folder / f"{name}.nii.gz")
    return folder / "scan.nii.gz", folder / "mask.nii.gz"


def steps(use, geometry=VOLUME, **more):
    geometry = geometry.with_mask if use in ("channel", "both") else geometry
    return Preprocessor(geometry, mask=MaskUse(use, **more))


@pytest.mark.parametrize(
    ("orientation", "turn", "shear"), [("RAS", 0, 0), ("LPS", 0, 0), ("SAL", 12, 0), ("RAS", 0, 0.2)]
)
def test_the_channel_marks_what_is_bright_in_the_scan(tmp_path, orientation, turn, shear):
    scan, mask = scan_and_mask(tmp_path, orientation, turn, shear)
    found = steps("channel").prepare_file(scan, mask).channels
    assert found.shape == (24, 48, 48) and set(np.unique(found[1::2])) == {0, 255}
    bright, marked = found[::2] > 135, found[1::2] > 0
    assert 2 * (bright & marked).sum() / (bright.sum() + marked.sum()) > 0.9
    assert np.array_equal(found[::2], Preprocessor(VOLUME).prepare_file(scan).channels)


@pytest.mark.parametrize(
    ("orientation", "turn", "shear"), [("RAS", 0, 0), ("PIR", 0, 0), ("LAS", 12, 0), ("RAS", 0, 0.2)]
)
def test_the_crop_holds_the_mask_and_its_margin_and_maps_back(tmp_path, orientation, turn, shear):
    scan, mask = scan_and_mask(tmp_path, orientation, turn, shear)
    close = replace(VOLUME, image_size=32, slices=8, spacing=(1.0, 1.0, 3.0))
    prepared = steps("both", close, margin_mm=4.0).prepare_file(scan, mask)
    bright, marked = prepared.channels[::2] > 135, prepared.channels[1::2] > 0
    assert 2 * (bright & marked).sum() / (bright.sum() + marked.sum()) > 0.9
    assert 0.05 < marked.mean() < 0.5
    back = prepared.placement.on_scan(marked.astype(np.float32)) > 0.5
    truth = np.asarray(nib.load(mask).dataobj) > 0
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.85


def test_grey_values_of_a_crop_are_those_of_the_whole_scan(tmp_path):
    scan, mask = scan_and_mask(tmp_path)
    near = steps("crop", replace(VOLUME, image_size=16, slices=5), margin_mm=0.0).prepare_file(scan, mask).channels
    whole = Preprocessor(VOLUME).prepare_file(scan).channels
    assert near.max() == whole.max() and abs(float(near[near > 135].mean()) - float(whole[whole > 135].mean())) < 3


def test_a_crop_without_slices_of_the_mask_is_never_larger_than_the_scan():
    inside = np.zeros((30, 40), dtype=bool)
    inside[0:3, 37:39] = True
    assert box_around(inside, 5.0, (1.0, 2.0)) == [slice(0, 8), slice(35, 40)]
    assert box_around(inside, 500.0, (1.0, 2.0)) == [slice(0, 30), slice(0, 40)]


def test_an_image_is_cropped_and_its_mask_follows_its_colours(tmp_path):
    pixels, inside = np.full((40, 60, 3), 60, dtype=np.uint8), np.zeros((40, 60), dtype=np.uint8)
    pixels[10:20, 30:50, 1], inside[10:20, 30:50] = 240, 3
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    Image.fromarray(inside).save(tmp_path / "mask.png")
    image = Geometry("image", 32, 1, 3, None, "pad", "keep")
    prepared = steps("both", image, margin_mm=2.0).prepare_file(tmp_path / "scan.png", tmp_path / "mask.png")
    red, green, blue, marked = prepared.channels
    assert (marked > 0).sum() == pytest.approx(32 * 32 * 200 / 24**2, rel=0.1)  # the box of 14 x 24 pixels is padded
    agrees = (green > 150) == (marked > 0)
    assert agrees.mean() > 0.97 and red.max() <= 60 and blue.max() <= 60
    back = prepared.placement.on_scan((marked > 0).astype(np.float32)[None])[0] > 0.5
    assert 2 * (back & (inside > 0)).sum() / (back.sum() + 200) > 0.9


def test_a_missing_or_empty_mask_is_refused_or_is_the_whole_scan(tmp_path):
    scan, _ = scan_and_mask(tmp_path)
    nib.save(nib.Nifti1Image(np.zeros((30, 40, 16), dtype=np.uint8), nib.load(scan).affine), tmp_path / "empty.nii.gz")
    for mask, why in ((None, "it has no mask"), (tmp_path / "empty.nii.gz", "its mask is empty")):
        with pytest.raises(Unreadable, match=f"{why}, and the model looks at masks"):
            steps("crop").prepare_file(scan, mask)
        whole = steps("both", missing="whole").prepare_file(scan, mask).channels
        assert np.array_equal(whole[::2], Preprocessor(VOLUME).prepare_file(scan).channels)
        assert (whole[1::2] > 0).sum() == 30 * 40 * 12  # the grid has 12 of the 16 slices
    assert np.array_equal(steps("crop").prepare_file(scan, "whole").channels, whole[::2])


def test_what_is_done_with_masks_survives_json_and_none_leaves_no_trace():
    used = Preprocessor(VOLUME.with_mask, mask=MaskUse("both", 3.0, "whole", (1, 2)))
    assert Preprocessor.from_json(used.as_json()) == used
    assert "mask" not in str(Preprocessor(VOLUME).as_json())


def test_a_geometry_gains_and_loses_the_channel_of_the_mask():
    slab = Geometry("volume", 32, 4, 6, (1.0, 1.0, 1.0), "pad", ((0.0, 1.0), (1.0, 2.0)))
    colour = Geometry("image", 32, 1, 3, None, "pad", "keep")
    assert (slab.with_mask.channels, slab.with_mask.windows, slab.with_mask.depth) == (9, 3, slab.depth)
    assert slab.with_mask.mask_places == list(range(2, 36, 3)) and slab.with_mask.without_mask == slab
    assert colour.with_mask.mask_places == [3] and colour.with_mask.without_mask == colour
    assert colour.colour and colour.with_mask.colour
