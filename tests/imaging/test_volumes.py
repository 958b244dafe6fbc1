import gzip

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from pipeline.imaging.volumes import Unreadable, read_header, read_scan
from tests.conftest import save_nifti, shared


def test_a_scaled_nifti_is_read_in_its_own_units(tmp_path):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "ct.nii.gz")
    voxels = read_scan(tmp_path / "ct.nii.gz").voxels
    assert voxels.shape == (1, 3, 4, 5)
    np.testing.assert_allclose(voxels[0], nib.load(tmp_path / "ct.nii.gz").get_fdata())
    assert voxels.min() < 0


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "ASL"])
def test_a_header_gives_sizes_from_left_to_right_back_to_front_feet_to_head(tmp_path, asymmetric, orientation):
    file = save_nifti(tmp_path / "scan.nii", asymmetric, orientation, spacing=(1.0, 2.0, 3.0))
    header = read_header(file)
    assert header.shape == (12, 14, 10)
    assert header.spacing == pytest.approx((1, 2, 3))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_a_picture_keeps_its_rows_and_columns(tmp_path, mode, channels):
    pixels = np.zeros((5, 9), dtype=np.uint8)
    pixels[0, 8] = 200  # top right
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    voxels = read_scan(tmp_path / "a.png").voxels
    assert voxels.shape == (channels, 5, 9)
    assert voxels[0, 0, 8] == 200 and voxels[0].sum() == 200
    assert read_header(tmp_path / "a.png").channels == channels


def test_a_16_bit_picture_keeps_its_values(tmp_path):
    Image.fromarray(np.array([[0, 40000]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_scan(tmp_path / "a.png").voxels.max() == 40000
    assert read_header(tmp_path / "a.png").bits == 16


def test_a_flipped_bit_is_noticed_or_changes_no_voxel(tmp_path, asymmetric):
    file = save_nifti(tmp_path / "scan.nii.gz", np.random.default_rng(0).normal(size=(12, 14, 10)).astype(np.float32))
    sound, clean = file.read_bytes(), read_scan(file).voxels
    rng = np.random.default_rng(1)
    for _ in range(60):
        broken = bytearray(sound)
        broken[rng.integers(len(broken))] ^= 1 << int(rng.integers(8))
        file.write_bytes(broken)
        try:
            voxels = read_scan(file).voxels
        except Unreadable:
            continue
        np.testing.assert_array_equal(voxels, clean)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "a.png"])
def test_a_truncated_file_is_refused(tmp_path, asymmetric, name):
    file = tmp_path / name
    if name.endswith("png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(file)
    else:
        save_nifti(file, asymmetric)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(Unreadable):
        read_scan(file)


def test_the_reason_against_a_file_never_holds_its_name(tmp_path):
    for name in ("Doe_Jane.png", "Doe_Jane.nii", "Doe_Jane.nii.gz"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(Unreadable) as refused:
            read_scan(tmp_path / name)
        assert "Doe" not in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_other_files_are_refused_by_their_ending(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Unreadable, match="ending"):
        read_scan(tmp_path / "notes.txt")


def test_a_series_of_volumes_is_refused_with_its_shape(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 5), dtype=np.float32), np.eye(4)), tmp_path / "fmri.nii")
    with pytest.raises(Unreadable, match=r"\(3, 3, 3, 5\)"):
        read_scan(tmp_path / "fmri.nii")


def test_a_singular_affine_is_refused(tmp_path):
    image = nib.Nifti1Image(np.ones((3, 3, 3), dtype=np.float32), np.eye(4))
    image.header["srow_x"] = 0
    nib.save(image, tmp_path / "flat.nii")
    with open(tmp_path / "flat.nii", "r+b") as file:
        file.seek(280)
        file.write(np.zeros(4, dtype="<f4").tobytes())
    with pytest.raises(Unreadable, match="affine"):
        read_scan(tmp_path / "flat.nii")


def test_a_file_that_only_calls_itself_nifti_is_refused(tmp_path):
    with gzip.open(tmp_path / "x.nii.gz", "wb") as file:
        file.write(b"nothing of the kind" * 100)
    with pytest.raises(Unreadable):
        read_scan(tmp_path / "x.nii.gz")


def test_every_real_hippocampus_is_read():
    files = sorted(shared("hippocampus3d").glob("*.nii.gz"))[:40]
    assert all(np.isfinite(read_scan(file).voxels).all() for file in files)
