"""The test files of pydicom and nibabel: each is read as GDCM or nibabel reads it, or refused with a reason."""

import warnings
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK
from pydicom.uid import ExplicitVRBigEndian

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_scan

FIRST = Policy(frames="first", unknown_orientation="assume", affine_conflict="sform", not_finite="darken")
OF_LIBRARIES = ("Error: ", "unreadable: ValueError", "KeyError", "TypeError", "IndexError", "AttributeError")


def outcome(file, policy=FIRST):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_scan(file, policy)
    except Unreadable as refused:
        return refused


def by_gdcm(file):
    """Read the first image as (C, rows, columns); None where GDCM cannot."""
    try:
        image = SimpleITK.ReadImage(str(file))
    except RuntimeError:
        return None
    pixels, channels = SimpleITK.GetArrayFromImage(image), image.GetNumberOfComponentsPerPixel()
    pixels = pixels if channels > 1 else pixels[..., np.newaxis]
    return np.moveaxis(pixels.reshape(-1, *pixels.shape[-3:])[0], -1, 0)


def dicom_files():
    return sorted((Path(pydicom.data.__file__).parent / "test_files").rglob("*.dcm"))


def test_files_of_pydicom_are_read_as_gdcm_reads_them_or_refused():
    counts: Counter[str] = Counter()
    for file in dicom_files():
        scan = outcome(file)
        if isinstance(scan, Unreadable):
            counts["refused"] += 1
            continue
        fields = pydicom.dcmread(file, force=True)
        theirs = by_gdcm(file)
        kind, padding = fields.get("PhotometricInterpretation"), fields.get("PixelPaddingValue")
        plain = not padding and (kind == "MONOCHROME2" or (kind == "RGB" and fields.BitsStored == 8))
        plain &= fields.file_meta.get("TransferSyntaxUID") != ExplicitVRBigEndian  # whose words GDCM swaps wrongly
        if theirs is None or not plain or scan.header.is_volume or scan.background is not None:
            counts["read, not compared"] += 1
            continue
        np.testing.assert_allclose(scan.voxels, theirs, rtol=1e-6, atol=1e-3, err_msg=file.name)
        counts["read as GDCM reads it"] += 1
    assert counts["read as GDCM reads it"] >= 27 and counts["read, not compared"] >= 27 and counts["refused"] <= 25


def nifti_files():
    root = Path(nib.__file__).parent
    return sorted(file for file in root.rglob("*.nii*") if file.name.endswith((".nii", ".nii.gz")))


@pytest.mark.parametrize("file", nifti_files(), ids=lambda file: file.name)
def test_a_file_of_nibabel_is_read_as_nibabel_reads_it_or_refused(file):
    scan = outcome(file)
    if isinstance(scan, Unreadable):
        assert not any(word in str(scan) for word in OF_LIBRARIES), scan
        return
    truth = nib.load(file)
    expected = np.asarray(truth.dataobj).reshape(*scan.voxels.shape[1:], -1)[..., 0]
    if not expected.dtype.names:
        expected = np.where(np.isfinite(expected), expected, np.nanmin(expected))
        np.testing.assert_allclose(scan.voxels[0], expected, rtol=1e-6)
    np.testing.assert_allclose(scan.affine, truth.affine, rtol=1e-6)
