from functools import cache
from pathlib import Path

import nibabel as nib
import nilearn.datasets
import numpy as np
import pytest
from scipy import ndimage

from pipeline.imaging.preparation.brain_fit import NotAHead
from pipeline.imaging.preparation.deface import deface
from pipeline.imaging.reading.scan import Policy
from pipeline.imaging.reading.volumes import read_scan
from tests.conftest import shared

PADDING = 30  # voxels around the template
STRAIGHT = np.eye(4)
TURNED = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.12, -0.1, 0.15) * [1.05, 0.97, 0.93], [12, -9, 14])


@cache
def anatomy():
    """Build a head around the MNI152 brain with skull, scalp, neck, face: grey values, brain, nose, eyes, affine."""
    folder = Path(nilearn.datasets.__file__).parent / "data"
    image = nib.load(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    values = np.pad(image.get_fdata(dtype=np.float32), PADDING)[::2, ::2, ::2]
    affine = image.affine @ nib.affines.from_matvec(np.eye(3), [-PADDING] * 3) @ np.diag([2.0, 2, 2, 1])
    brain = ndimage.binary_fill_holes(values > 0)
    x, y, z = np.moveaxis(nib.affines.apply_affine(affine, np.moveaxis(np.indices(values.shape), 0, -1)), -1, 0)
    face = (x / 55) ** 2 + ((y - 55) / 45) ** 2 + ((z + 45) / 65) ** 2 < 1
    nose = (x / 12) ** 2 + ((y - 100) / 18) ** 2 + ((z + 40) / 20) ** 2 < 1
    eyes = ((abs(x) - 32) / 12) ** 2 + ((y - 72) / 12) ** 2 + ((z + 32) / 12) ** 2 < 1
    neck = (np.hypot(x / 55, (y + 20) / 60) < 1) & (z < -50)
    distance = 2 * ndimage.distance_transform_edt(~brain)
    return values / values.max(), brain, distance, face | nose | neck | (distance < 14), nose & ~brain, eyes, affine


def head(contrast):
    values, brain, distance, soft, _, _, _ = anatomy()
    skull = (distance > 2) & (distance < 8)
    rng = np.random.default_rng(0)
    if contrast == "ct":
        scan = np.where(soft, 60.0, -1000.0)
        scan[skull] = 900
        scan[brain] = 30 + 8 * values[brain] + rng.normal(0, 4, brain.sum())
        return scan.astype(np.int16)
    scan = np.where(soft, 600.0, 0.0)
    scan[skull] = 50
    scan[brain] = 1000 * values[brain]
    return np.abs(scan + rng.normal(0, 15, scan.shape)).astype(np.float32)


def stored(volume, affine, orientation):
    image = nib.Nifti1Image(volume, affine)
    codes = nib.orientations.axcodes2ornt(orientation)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), codes))


@pytest.mark.parametrize("contrast", ["t1", "ct"])
@pytest.mark.parametrize(("pose", "orientation"), [(STRAIGHT, "RAS"), (TURNED, "PSR"), (TURNED, "LPI")])
def test_the_face_is_darkened_and_no_voxel_of_the_brain_changes(contrast, pose, orientation):
    _, brain, _, _, nose, eyes, affine = anatomy()
    volume = head(contrast)
    scan = stored(volume, pose @ affine, orientation)
    brain, nose, eyes = (
        np.asarray(stored(part.astype(np.uint8), pose @ affine, orientation).dataobj) > 0
        for part in (brain, nose, eyes)
    )
    before = np.asarray(scan.dataobj)[None]
    after = deface(before, scan.affine)
    assert after.dtype == volume.dtype and after.shape == before.shape
    np.testing.assert_array_equal(after[0, brain], before[0, brain])
    assert (after[0, nose] == before.min()).mean() > 0.95
    assert (after[0, eyes & ~brain] == before.min()).mean() > 0.8


def test_the_same_scan_gives_the_same_bytes():
    volume, affine = head("t1")[None], anatomy()[-1]
    before = volume.copy()
    first = deface(volume, affine)
    assert deface(volume, affine).tobytes() == first.tobytes()
    np.testing.assert_array_equal(volume, before)


def ball(shape=(90, 110, 90)):
    index = np.indices(shape) - np.array([45, 55, 45])[:, None, None, None]
    return 1000.0 * (np.linalg.norm(index, axis=0) < 40) + np.random.default_rng(0).normal(0, 10, shape)


def abdomen(shape=(90, 110, 90)):
    index = np.indices(shape) - np.array([45, 55, 45])[:, None, None, None]

    def ellipsoid(centre, radii):
        moved = (index - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
        return np.linalg.norm(moved, axis=0) < 1

    liver = ellipsoid((15, 5, 0), (16, 14, 30))
    return 100.0 * ellipsoid((0, 0, 0), (42, 30, 60)) + 60 * liver + np.random.default_rng(0).normal(0, 5, shape)


@pytest.mark.parametrize("what", [ball, abdomen, lambda: np.random.default_rng(0).normal(100, 20, (60, 70, 60))])
def test_a_scan_without_a_head_is_refused(what):
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -90, -126, -72
    with pytest.raises(NotAHead):
        deface(what().astype(np.float32)[None], affine)


SPINES = ["nnunet_ct/example_ct_sm.nii.gz", "sct/t1/t1w.nii.gz", "sct/t2/t2.nii.gz", "sct/t2s/t2s.nii.gz"]
SLABS = ["sct/fmri/fmri.nii.gz", "dicom_siemens_epi/mr_0003"]


@pytest.mark.parametrize("name", [*SPINES, *SLABS])
def test_real_scans_of_spine_and_of_slabs_are_refused(name):
    scan = read_scan(shared("reader_zoo") / name, Policy(frames="first"))
    with pytest.raises(NotAHead):
        deface(scan.voxels, scan.affine)


def test_crops_of_a_brain_are_refused():
    for file in sorted(shared("hippocampus3d").glob("*.nii.gz"))[:5]:
        scan = read_scan(file)
        with pytest.raises(NotAHead):
            deface(scan.voxels, scan.affine)


def test_real_heads_lose_their_face_and_keep_their_brain():
    """Take as brain what is within 55 mm of the point 65 mm below the top of the head, above the eyes."""
    for file in sorted(shared("ixi_t1_2mm").glob("*.nii.gz")):
        scan = read_scan(file)
        after = deface(scan.voxels, scan.affine)
        places = nib.affines.apply_affine(scan.affine, np.moveaxis(np.indices(scan.voxels.shape[1:]), 0, -1))
        head = scan.voxels[0] > 40
        top = np.percentile(places[head][:, 2], 99.9)
        upper = places[head & (places[..., 2] > top - 90)]
        middle = (np.percentile(upper, 2, axis=0) + np.percentile(upper, 98, axis=0)) / 2
        brain = np.linalg.norm(places - [middle[0], middle[1], top - 65], axis=-1) < 55
        brain &= places[..., 2] > top - 75
        np.testing.assert_array_equal(after[0, brain], scan.voxels[0, brain])
        front = (places[..., 1] > middle[1] + 50) & (places[..., 2] < top - 110) & (places[..., 2] > top - 160)
        assert (scan.voxels[0, front & head] > 0).sum() > 500
        assert (after[0, front & head] == scan.voxels.min()).mean() > 0.9
