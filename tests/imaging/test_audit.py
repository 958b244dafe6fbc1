import numpy as np
import pytest
from PIL import Image

from pipeline.imaging.audit import audit_file
from tests.conftest import save_nifti


def test_a_sound_scan_has_no_finding(tmp_path, asymmetric):
    audited = audit_file(save_nifti(tmp_path / "a.nii.gz", asymmetric))
    assert audited.finding is None and audited.header.shape == (12, 14, 10)


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda v: np.where(v == 100, np.nan, v), "not finite"),
        (lambda v: np.where(v == 100, np.inf, v), "not finite"),
        (lambda v: np.zeros_like(v), "constant"),
    ],
)
def test_voxels_that_would_spoil_training_are_found(tmp_path, asymmetric, spoil, check):
    file = save_nifti(tmp_path / "a.nii.gz", spoil(asymmetric).astype(np.float32))
    assert audit_file(file).finding.check == check


def test_a_spacing_of_a_kilometre_is_found(tmp_path, asymmetric):
    assert audit_file(save_nifti(tmp_path / "a.nii", asymmetric, spacing=(1, 1, 1e6))).finding.check == "spacing"


def test_a_missing_and_a_broken_file_are_found(tmp_path):
    (tmp_path / "b.png").write_bytes(b"not a picture")
    assert audit_file(tmp_path / "a.nii").finding.check == "missing"
    assert audit_file(tmp_path / "b.png").finding.check == "unreadable"


def test_a_black_picture_is_found(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "a.png")
    assert audit_file(tmp_path / "a.png").finding.check == "constant"
