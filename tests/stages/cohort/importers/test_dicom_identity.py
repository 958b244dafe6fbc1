"""Exports whose UIDs do not say what belongs together."""

from functools import partial

import numpy as np
import pytest

from pipeline.imaging.reading.volumes import read_scan
from pipeline.imaging.tables.pseudonyms import PUBLIC_SALT, pseudonym
from pipeline.stages.cohort.importers.dicom_tree import Choices, find_in_dicom_tree
from pipeline.stages.cohort.importers.found import write_import
from tests.stages.cohort.importers.conftest import dicom_image, dicom_series, save

NAME = partial(pseudonym, PUBLIC_SALT)
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def depths(folder, into, **choices):
    """Import, and give the label, patient and number of slices of each case."""
    found = find_in_dicom_tree(folder, Choices(**choices), NAME)
    assert write_import(found, into, link=False) == []
    scans = [read_scan(into / "images" / case.row["image"]) for case in found.cases]
    of_case = [(case.row["patient_id"], case.row["label"]) for case in found.cases]
    return found, dict(zip(of_case, (scan.voxels.shape[-1] for scan in scans), strict=True))


@pytest.mark.parametrize("uid_of", [lambda n: "1.2.3.4", lambda n: f"1.2.{n // 2}"], ids=["one for all", "one for two"])
def test_images_that_share_an_instance_uid_are_all_taken(tmp_path, uid_of):
    for number in range(1, 9):
        save(dicom_image(number, SOPInstanceUID=uid_of(number)), tmp_path / "src" / f"{number}.dcm")
    save(dicom_image(3, SOPInstanceUID=uid_of(3)), tmp_path / "src" / "copy.dcm")
    found, slices = depths(tmp_path / "src", tmp_path / "raw")
    assert slices == {("P1", ""): 8}
    assert [reason for _, reason in found.left_out] == ["another file holds the same image"]


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_one_series_uid_of_two_scans_makes_two_cases(tmp_path, keyword):
    for uid, first in (("12.1", 1), ("12.2", 5)):
        for number in range(first, first + 4):
            save(dicom_image(number, **{keyword: uid}), tmp_path / "src" / f"{number}.dcm")
    found = find_in_dicom_tree(tmp_path / "src", Choices(), NAME)
    assert write_import(found, tmp_path / "raw", link=False) == []
    assert [case.row["case_id"] for case in found.cases] == ["1.2.3.4-1", "1.2.3.4-2"]
    for case in found.cases:
        assert read_scan(tmp_path / "raw" / "images" / case.row["image"]).voxels.shape[-1] == 4
    assert any("1 series UIDs stand for several" in note for note in found.notes)


def test_two_patients_of_one_series_uid_keep_their_labels(tmp_path):
    for patient, first in (("0012", 1), ("0013", 9)):
        for number in range(first, first + 8):
            image = dicom_image(number, PatientID=patient, StudyInstanceUID=f"1.2.{int(patient)}")
            save(image, tmp_path / "src" / patient / f"{number}.dcm")
    labels = {"0012": "malignant", "0013": "benign"}
    _, slices = depths(tmp_path / "src", tmp_path / "raw", labels=labels)
    assert slices == {("0012", "malignant"): 8, ("0013", "benign"): 8}


def test_a_file_that_leaves_the_frame_of_reference_out_belongs_here(tmp_path):
    dicom_series(tmp_path / "src", 4)
    save(dicom_image(5, FrameOfReferenceUID=None), tmp_path / "src" / "5.dcm")
    assert depths(tmp_path / "src", tmp_path / "raw")[1] == {("P1", ""): 5}


@pytest.mark.parametrize("series", ["1.2.3.4", "1.2.3.9"])
def test_a_screenshot_beside_a_scan_is_left_out_by_name(tmp_path, series):
    dicom_series(tmp_path / "src")
    more = {"SOPClassUID": CAPTURE, "SeriesInstanceUID": series, "ImagePositionPatient": None}
    save(dicom_image(9, pixels=np.eye(6, dtype=np.uint8), **more), tmp_path / "src" / "shot.dcm")
    found, slices = depths(tmp_path / "src", tmp_path / "raw")
    assert slices == {("P1", ""): 4}
    assert found.left_out == [("shot.dcm", "a secondary capture, such as a screenshot, beside the scans of its study")]


def test_a_study_of_digitised_images_alone_is_taken(tmp_path):
    save(dicom_image(1, SOPClassUID=CAPTURE, ImagePositionPatient=None), tmp_path / "src" / "photo.dcm")
    assert len(find_in_dicom_tree(tmp_path / "src", Choices(), NAME).cases) == 1
