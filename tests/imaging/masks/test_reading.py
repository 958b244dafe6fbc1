import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image

from pipeline.imaging.masks.matching import on_scan
from pipeline.imaging.masks.reading import read_mask
from pipeline.imaging.reading.scan import STRICT, Unreadable
from pipeline.imaging.reading.volumes import read_scan
from tests.imaging.phantoms import OF_A_PATIENT, save_series, segments

LABELS = np.zeros((12, 10, 6), dtype=np.uint8)
LABELS[3:7, 2:5, 1:4], LABELS[8:10, 6:9, 2:5] = 1, 2


def refused(file):
    with pytest.raises(Unreadable) as error:
        read_mask(file, STRICT)
    return str(error.value)


def test_nifti_and_nrrd_give_the_same_labels_in_the_same_space(tmp_path):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(LABELS, affine), tmp_path / "a.nii.gz")
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    one, other = read_mask(tmp_path / "a.nii.gz", STRICT), read_mask(tmp_path / "a.nrrd", STRICT)
    assert np.array_equal(one.labels, LABELS) and np.array_equal(other.labels, LABELS)
    assert np.allclose(one.affine, affine) and np.allclose(other.affine, affine)
    assert one.inside([2]).sum() == (LABELS == 2).sum() and one.inside().sum() == (LABELS > 0).sum()


def test_whole_numbers_stored_as_floats_are_labels_and_others_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(LABELS.astype(np.float32), np.eye(4)), tmp_path / "a.nii")
    assert np.array_equal(read_mask(tmp_path / "a.nii", STRICT).labels, LABELS)
    nib.save(nib.Nifti1Image(LABELS * np.float32(0.5), np.eye(4)), tmp_path / "b.nii")
    assert "it holds 0.5, but labels are whole numbers; save it with label numbers" in refused(tmp_path / "b.nii")
    nib.save(nib.Nifti1Image(np.where(LABELS, np.nan, 0).astype(np.float32), np.eye(4)), tmp_path / "c.nii")
    assert "it holds nan, but labels are whole numbers" in refused(tmp_path / "c.nii")


def test_png_of_grey_or_equal_colours_is_read_and_other_colours_are_not(tmp_path):
    plane = LABELS[:, :, 2]
    Image.fromarray(plane).save(tmp_path / "a.png")
    Image.fromarray(np.stack([plane] * 3, axis=-1)).save(tmp_path / "b.png")
    Image.fromarray(np.stack([plane, plane, 0 * plane], axis=-1)).save(tmp_path / "c.png")
    for name in "ab":
        assert np.array_equal(read_mask(tmp_path / f"{name}.png", STRICT).labels, plane)
    assert "its channels differ, so that it holds colours" in refused(tmp_path / "c.png")


def test_an_empty_mask_is_read_as_one(tmp_path):
    nib.save(nib.Nifti1Image(0 * LABELS, np.eye(4)), tmp_path / "a.nii")
    assert not read_mask(tmp_path / "a.nii", STRICT).inside().any()


def test_jpeg_missing_and_broken_files_are_refused(tmp_path):
    Image.fromarray(LABELS[:, :, 2]).save(tmp_path / "a.jpg")
    assert "JPEG changes label numbers" in refused(tmp_path / "a.jpg")
    assert "the file does not exist" in refused(tmp_path / "none.nii.gz")
    nib.save(nib.Nifti1Image(LABELS, np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes((tmp_path / "a.nii").read_bytes()[:-50])
    assert "the file ends after" in refused(tmp_path / "b.nii")


@pytest.mark.parametrize("orientation", ["LPS", "LSA"])
def test_a_dicom_segmentation_lands_on_the_series_it_refers_to(tmp_path, orientation):
    volume = np.random.default_rng(0).integers(1, 500, LABELS.shape).astype(np.int16) + 1000 * (LABELS > 0)
    folder = save_series(tmp_path / "series", volume.astype(np.int16), orientation, (1.0, 1.5, 2.0), **OF_A_PATIENT)
    scan = read_scan(folder)
    inside = scan.voxels[0] > 600
    slices = sorted((pydicom.dcmread(file) for file in folder.iterdir()), key=lambda one: one.SOPInstanceUID)
    frames = []
    for one in slices:
        pixels = one.pixel_array
        frames.append(np.where(pixels > 600, 1 + (pixels % 2), 0))
    segments(slices, np.stack(frames).astype(np.uint8)).save_as(tmp_path / "seg.dcm")
    mask = read_mask(tmp_path / "seg.dcm", STRICT)
    assert set(np.unique(mask.labels)) == {0, 1, 2}
    assert np.array_equal(on_scan(mask, scan), inside)
    assert np.array_equal(on_scan(mask, scan, [2]), inside & (scan.voxels[0] % 2 == 1))


def test_each_label_holds_its_whole_segment_where_segments_overlap(tmp_path):
    folder = save_series(tmp_path / "series", np.arange(280, dtype=np.int16).reshape(8, 7, 5), **OF_A_PATIENT)
    scan = read_scan(folder)
    slices = sorted((pydicom.dcmread(file) for file in folder.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    marked = np.zeros((5, 7, 8, 3), dtype=np.uint8)  # slice, row, column, segment
    marked[1:4, 1:6, 1:6, 0], marked[2:4, 2:4, 2:4, 1], marked[0, 0, 0, 2] = 1, 1, 1
    segments(slices, marked, count=3).save_as(tmp_path / "seg.dcm")
    mask = read_mask(tmp_path / "seg.dcm", STRICT)
    assert len(mask.overlapping) == 1
    of_labels = {(1,): 3 * 25, (2,): 2 * 4, (3,): 1, (1, 2): 3 * 25, (): 3 * 25 + 1}
    assert {labels: on_scan(mask, scan, labels).sum() for labels in of_labels} == of_labels


def test_a_damaged_dicom_mask_is_unreadable(tmp_path):
    file = tmp_path / "a.dcm"
    file.write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00")
    assert refused(file)
