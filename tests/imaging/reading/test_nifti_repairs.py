"""NIfTI headers that are slightly or badly off; nibabel and SimpleITK are asked where they agree."""

import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_scan

AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -30], [0, 0, 3, -10], [0, 0, 0, 1]])
VOXELS = np.random.default_rng(0).integers(0, 900, (9, 8, 7)).astype(np.int16)
ASSUME = Policy(unknown_orientation="assume")


def write(folder, offset=0, form="", values=(), codes=(1, 1), data=VOXELS, kind=nib.Nifti1Image):
    """Write a volume, and overwrite some bytes of its header."""
    image = kind(data, AFFINE)
    image.set_sform(AFFINE, codes[0])
    image.set_qform(AFFINE, codes[1])
    content = bytearray(image.to_bytes())
    if form:
        struct.pack_into("<" + form, content, offset, *values)
    (folder / "a.nii").write_bytes(bytes(content))
    return folder / "a.nii"


def checks(scan):
    return [(one.check, one.action) for one in scan.header.findings]


def assert_sound(scan):
    np.testing.assert_array_equal(scan.voxels[0], VOXELS)
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("codes", [(1, 1), (0, 1)])
@pytest.mark.parametrize("quaternion", [(0, 1.0000005, 0), (0, 1.00004, 0), (0.0001, 1.0, 0.0001)])
def test_a_quaternion_a_hair_too_long_is_normalised(tmp_path, codes, quaternion):
    file = write(tmp_path, 256, "3f", quaternion, codes)
    scan = read_scan(file)
    np.testing.assert_array_equal(scan.voxels[0], VOXELS)
    np.testing.assert_allclose(scan.affine, AFFINE, atol=0.02)
    theirs = SimpleITK.ReadImage(str(file))
    np.testing.assert_allclose(np.abs(np.diag(scan.affine)[:3]), theirs.GetSpacing(), atol=1e-5)


def test_a_quaternion_of_another_length_is_no_rotation(tmp_path):
    with pytest.raises(Unreadable, match="not a rotation"):
        read_scan(write(tmp_path, 256, "3f", (0, 1.5, 0), (0, 1)))
    with pytest.raises(Unreadable, match="affine conflict"):
        read_scan(write(tmp_path, 256, "3f", (0, 1.5, 0), (1, 1)))


@pytest.mark.parametrize("code", [4, 5, 6, 7, 7 + 8])
def test_an_unknown_unit_of_length_is_millimetres_and_told(tmp_path, code):
    file = write(tmp_path, 123, "B", (code,))
    scan = read_scan(file)
    assert_sound(scan)
    np.testing.assert_allclose(SimpleITK.ReadImage(str(file)).GetSpacing(), (2, 2, 3))
    assert checks(scan) == [("units", "warned")]


@pytest.mark.parametrize("offset", [0, 1, 348, 351])
def test_voxels_begin_behind_the_header(tmp_path, offset):
    scan = read_scan(write(tmp_path, 108, "f", (offset,)))
    assert_sound(scan)
    assert checks(scan) == [("voxel offset", "repaired")]


def test_voxels_of_nifti2_begin_behind_its_longer_header(tmp_path):
    scan = read_scan(write(tmp_path, 168, "q", (352,), kind=nib.Nifti2Image))
    assert_sound(scan)
    assert checks(scan) == [("voxel offset", "repaired")]


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), -4.0])
def test_an_offset_that_is_no_place_is_refused(tmp_path, offset):
    with pytest.raises(Unreadable, match="where the voxels begin|HeaderDataError"):
        read_scan(write(tmp_path, 108, "f", (offset,)))


@pytest.mark.parametrize("sizes", [(0, 0, 0), (-2, 2, 3), (2, 2, -3), (2, 0, 3), (float("nan"), 2, 3)])
def test_sizes_on_which_readers_disagree_are_refused_or_told(tmp_path, sizes):
    file = write(tmp_path, 80, "3f", sizes, (0, 1))
    with pytest.raises(Unreadable) as refused:
        read_scan(file)
    finding = refused.value.finding
    assert (finding.check, finding.parameter) == ("orientation", "cohort.reading.unknown_orientation")
    if np.isfinite(sizes).all():
        assert checks(read_scan(file, ASSUME)) == [("orientation", "repaired")]
        np.testing.assert_allclose(read_scan(file, ASSUME).affine, nib.load(file).affine)


def test_sizes_that_an_sform_makes_needless_are_no_finding(tmp_path):
    scan = read_scan(write(tmp_path, 80, "3f", (0, 0, 0), (1, 0)))
    assert_sound(scan)
    assert checks(scan) == []


def test_an_sform_of_nan_beside_a_sound_qform_is_a_conflict(tmp_path):
    file = write(tmp_path, 280, "4f", (np.nan,) * 4)
    with pytest.raises(Unreadable, match="affine conflict.*NaN"):
        read_scan(file)
    assert_sound(read_scan(file, Policy(affine_conflict="qform")))
    with pytest.raises(Unreadable, match="not finite"):
        read_scan(file, Policy(affine_conflict="sform"))


@pytest.mark.parametrize(
    "values",
    [
        VOXELS.astype(np.uint32) + np.uint32(3_000_000_000),
        VOXELS.astype(np.float64) + 1e12,
        VOXELS / 1e3 + 1e6,
        VOXELS / 9 + 1e7,
    ],
    ids=["uint32", "1e12", "1e6 in thousandths", "1e7 in ninths"],
)
def test_values_that_float32_cannot_tell_apart_are_refused_as_such(tmp_path, values):
    if np.ptp(values) > 256 * np.spacing(np.float32(values.max())):
        np.testing.assert_allclose(read_scan(write(tmp_path, data=values)).voxels[0], values)
        return
    with pytest.raises(Unreadable, match="precision: the values lie so close together"):
        read_scan(write(tmp_path, data=values))


@pytest.mark.parametrize("factor", [1e34, 1e-34])
def test_values_that_no_scan_measures_are_refused_as_such(tmp_path, factor):
    with pytest.raises(Unreadable, match="range: the values from 2e.* to .* are none that a scan measures"):
        read_scan(write(tmp_path, data=VOXELS * factor))
