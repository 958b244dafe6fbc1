"""Values outside the imaged area do not decide which values of a scan become black and white."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import prepare
from pipeline.imaging.reading.volumes import read_scan
from tests.imaging.phantoms import data_set, save, save_series

VOLUME = Geometry("volume", 32, 8, 1, spacing=(1.0, 1.0, 1.0), fit="pad", intensity="percentile")
IMAGE = Geometry("image", 120, 1, 1, spacing=None, fit="pad", intensity="percentile")


def ramp(shape, kind=np.int16, top=1499):
    return np.random.default_rng(0).integers(0, top + 1, shape).astype(kind)


def stored_like(scan, inside, geometry):
    """Compare stored grey values with those by the percentiles of the imaged area alone."""
    low, high = np.percentile(scan.voxels[0][inside], (0.5, 99.5))
    found = prepare(scan, geometry).channels
    levels = np.rint((np.unique(scan.voxels[0][inside]).clip(low, high) - low) * 255 / (high - low))
    assert len(np.unique(found)) >= 0.9 * len(np.unique(levels))
    return found


def of_padding(scan):
    return [one for one in scan.header.findings if one.check == "padding"]


@pytest.mark.parametrize(("value", "written"), [(-32768, -32768), (-2000, 2**16 - 2000), (3000, 3000)])
def test_declared_padding_of_a_volume_is_background(tmp_path, value, written):
    head = ramp((32, 32, 8))
    head[:4] = value
    keyword = {"PixelPaddingValue": written if written < 2**15 else value}
    folder = save_series(tmp_path / "s", head, **keyword)
    scan = read_scan(folder)
    inside = scan.voxels[0] != scan.background
    assert scan.background == scan.voxels[0][inside].min() - 1 and inside.mean() == 28 / 32
    stored_like(scan, inside, VOLUME)
    assert "12.5%" in of_padding(scan)[0].detail


def test_a_range_of_padding_is_left_out(tmp_path):
    pixels = ramp((60, 40), np.uint16, 3000) + np.uint16(100)
    pixels[:, :4], pixels[:, 4:6] = 65535, 65530
    scan = read_scan(save(data_set(pixels, PixelPaddingValue=65535, PixelPaddingRangeLimit=65530), tmp_path / "x.dcm"))
    assert scan.voxels.max() == pixels[:, 6:].max() and (scan.voxels[0, :, :6] == scan.background).all()
    stored_like(scan, scan.voxels[0] != scan.background, IMAGE)


def test_white_padding_of_monochrome1_is_black(tmp_path):
    pixels = ramp((60, 40), np.uint16, 3000)
    pixels[:, :10] = 0
    scan = read_scan(
        save(data_set(pixels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0), tmp_path / "x.dcm")
    )
    assert (prepare(scan, IMAGE).channels[0, :, 22:38] == 0).all()


def test_padding_that_lies_among_the_values_is_told_and_not_applied(tmp_path):
    pixels = ramp((60, 40), np.int16, 3000) - np.int16(1500)
    pixels[0, 0] = 0
    scan = read_scan(save(data_set(pixels, PixelPaddingValue=0), tmp_path / "x.dcm"))
    np.testing.assert_array_equal(scan.voxels[0], pixels)
    assert of_padding(scan)[0].action == "warned"


SENTINELS = {
    "lowest float": (np.float32, np.finfo(np.float32).min),
    "highest float": (np.float32, np.finfo(np.float32).max),
    "lowest int16": (np.int16, -32768),
    "highest uint16": (np.uint16, 65535),
    "lowest int32": (np.int32, -(2**31)),
    "a border of -9999": (np.float32, -9999),
}


@pytest.mark.parametrize(("kind", "value"), SENTINELS.values(), ids=SENTINELS)
@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_a_sentinel_far_from_all_values_is_recognised(tmp_path, kind, value, ending):
    volume = ramp((24, 24, 8), kind, 1000)
    volume[:4] = value
    if ending == ".nii.gz":
        nib.save(nib.Nifti1Image(volume, np.diag([1, 1, 2, 1.0])), tmp_path / f"a{ending}")
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(volume.transpose(2, 1, 0)), tmp_path / f"a{ending}")
    scan = read_scan(tmp_path / f"a{ending}")
    inside = scan.voxels[0] != scan.background
    assert inside.mean() == 20 / 24
    stored_like(scan, inside, VOLUME)


def test_two_sentinels_are_both_recognised(tmp_path):
    volume = ramp((24, 24, 8), np.int16, 1000)
    volume[:4], volume[-2:] = -32768, 32767
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    assert (scan.voxels[0] == scan.background).mean() == 6 / 24


@pytest.mark.parametrize("value", [0, 2000])
def test_a_background_near_the_values_is_left_alone(tmp_path, value):
    volume = ramp((24, 24, 8), np.int16, 1500) + np.int16(1)
    volume[:4] = value
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    np.testing.assert_array_equal(scan.voxels[0], volume)
    assert scan.background is None and not of_padding(scan)


def test_saturated_detectors_are_no_padding(tmp_path):
    pixels = np.linspace(0, 65535, 2400).astype(np.uint16).reshape(60, 40)
    assert read_scan(save(data_set(pixels), tmp_path / "x.dcm")).background is None
