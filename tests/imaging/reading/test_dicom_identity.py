"""Series as careless anonymisers write them."""

import numpy as np
import pydicom
import pytest

from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.reading.volumes import read_scan
from tests.imaging.phantoms import save_series


@pytest.fixture
def head(asymmetric):
    return asymmetric.astype(np.int16)


def changed(folder, change, files=None):
    """Change the attributes of each file in the order of its place."""
    ordered = sorted(folder.iterdir(), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
    for number, file in enumerate(ordered[:files]):
        fields = pydicom.dcmread(file)
        change(fields, number)
        fields.save_as(file)
    return folder


def set_uid(fields, uid):
    fields.SOPInstanceUID = uid


SHARED = {
    "one for all": lambda number: "1.2.3.4",
    "empty": lambda number: "",
    "one for two": lambda number: f"1.2.{number // 2}",
    "blank": lambda number: " ",
}


@pytest.mark.parametrize("uid_of", SHARED.values(), ids=SHARED)
def test_slices_that_share_an_instance_uid_are_all_read(tmp_path, head, uid_of):
    folder = changed(save_series(tmp_path / "s", head), lambda fields, n: set_uid(fields, uid_of(n)))
    assert read_scan(folder).header.shape == head.shape


def test_an_instance_uid_that_is_missing_does_not_hide_slices(tmp_path, head):
    folder = changed(save_series(tmp_path / "s", head), lambda fields, _: delattr(fields, "SOPInstanceUID"))
    (folder / "copy.dcm").write_bytes(next(folder.iterdir()).read_bytes())
    assert read_scan(folder).header.shape == head.shape


def test_one_uid_and_place_with_other_pixels_is_another_image(tmp_path, head):
    folder = save_series(tmp_path / "s", head)
    for file in list(folder.iterdir()):
        fields = pydicom.dcmread(file)
        fields.PixelData = bytes(np.frombuffer(fields.PixelData, np.uint8) ^ 1)
        fields.save_as(folder / f"{file.name}_later")
    with pytest.raises(Unreadable, match="2 volumes"):
        read_scan(folder)


@pytest.mark.parametrize(
    ("keyword", "what"),
    [("PatientID", "patients"), ("StudyInstanceUID", "studies"), ("FrameOfReferenceUID", "frames of reference")],
)
def test_a_series_of_two_scans_is_refused_as_what_it_is(tmp_path, head, keyword, what):
    folder = save_series(tmp_path / "s", head, FrameOfReferenceUID="1.5")
    changed(folder, lambda fields, _: setattr(fields, keyword, "1.99"), files=4)
    with pytest.raises(Unreadable, match=f"several {what}.*import dicom"):
        read_scan(folder)


@pytest.mark.parametrize("value", ["", "id "])
def test_an_identity_that_some_images_leave_empty_separates_none(tmp_path, head, value):
    folder = changed(save_series(tmp_path / "s", head), lambda fields, _: setattr(fields, "PatientID", value), files=4)
    assert read_scan(folder).header.shape == head.shape


@pytest.mark.parametrize(
    ("keyword", "what"),
    [
        ("ImagePositionPatient", "10 of 10 images state no positions"),
        ("PixelSpacing", "10 of 10 images state no pixel spacing"),
        ("ImageOrientationPatient", "10 of 10 images state no orientation"),
    ],
)
def test_slices_without_a_place_are_not_called_frames(tmp_path, head, keyword, what):
    folder = changed(save_series(tmp_path / "s", head), lambda fields, _: delattr(fields, keyword))
    with pytest.raises(Unreadable, match=what):
        read_scan(folder)
