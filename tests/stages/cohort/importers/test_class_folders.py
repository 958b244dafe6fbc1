import pytest

from pipeline.imaging.tables.cohort_table import read_cohort_table
from pipeline.stages.cohort.importers.class_folders import find_in_class_folders
from pipeline.stages.cohort.importers.found import NOT_AN_IMAGE, BadSource, write_import
from tests.stages.cohort.importers.conftest import dicom_image, dicom_series, save, volume, write_image


def rows(found):
    return [(case.row["image"], case.row["label"], case.row["split"]) for case in found.cases]


def test_class_folders_become_a_cohort_with_the_patient_in_the_name(tmp_path):
    for name in ("ill/p1_a.png", "ill/p1_b.png", "well/deep/p2_a.png"):
        write_image(tmp_path / "src" / name)
    found = find_in_class_folders(tmp_path / "src", r"(p\d+)_", {"well": "healthy"})
    write_import(found, tmp_path / "raw", link=True)
    cohort = read_cohort_table(tmp_path / "raw")
    assert cohort["label"].tolist() == ["ill", "ill", "healthy"]
    assert cohort["patient_id"].tolist() == ["p1", "p1", "p2"]
    assert (tmp_path / "raw" / cohort["image"][2]).is_symlink()


def test_noise_is_reported_as_left_out_and_makes_no_class(tmp_path):
    for name in ("ill/a.png", "well/b.png", "c.png", "ill/._a.png", "__MACOSX/ill/a.png", ".git/x.png"):
        write_image(tmp_path / name)
    (tmp_path / "well" / "notes.txt").write_text("x")
    (tmp_path / "well" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = find_in_class_folders(tmp_path, None, {})
    assert rows(found) == [("ill/a.png", "ill", ""), ("well/b.png", "well", "")]
    assert dict(found.left_out) == {
        "ill/._a.png": NOT_AN_IMAGE,
        "__MACOSX/ill/a.png": NOT_AN_IMAGE,
        ".git/x.png": NOT_AN_IMAGE,
        "well/notes.txt": NOT_AN_IMAGE,
        "c.png": "it lies beside the class folders, not in one",
        "well/gone.png": "the file is not there",
    }


def test_folders_called_like_splits_are_splits(tmp_path):
    for name in ("train/ill/a.png", "train/well/b.png", "Test/ill/c.png", "Test/d.png"):
        write_image(tmp_path / name)
    found = find_in_class_folders(tmp_path, None, {})
    assert rows(found) == [
        ("Test/ill/c.png", "ill", "test"),
        ("train/ill/a.png", "ill", "development"),
        ("train/well/b.png", "well", "development"),
    ]
    assert found.left_out == [("Test/d.png", "it lies beside the class folders, not in one")]


def test_slices_of_one_series_are_one_image(tmp_path):
    dicom_series(tmp_path / "ill" / "scan")
    for number in (1, 2):
        save(dicom_image(number, SeriesInstanceUID=f"1.2.{number}"), tmp_path / "well" / f"x{number}.dcm")
    volume(tmp_path / "well" / "v.nii.gz")
    found = find_in_class_folders(tmp_path, None, {})
    assert [image for image, _, _ in rows(found)] == ["ill/scan", "well/v.nii.gz", "well/x1.dcm", "well/x2.dcm"]


def test_series_mixed_in_a_folder_are_left_out_with_the_cure(tmp_path):
    dicom_series(tmp_path / "ill")
    save(dicom_image(9, SeriesInstanceUID="1.2.5"), tmp_path / "ill" / "other.dcm")
    write_image(tmp_path / "well" / "a.png")
    found = find_in_class_folders(tmp_path, None, {})
    assert rows(found) == [("well/a.png", "well", "")] and len(found.left_out) == 5
    assert "mixes 2 DICOM series; `medadapt import dicom --labels` separates them" in found.left_out[0][1]


def test_the_second_file_of_an_image_is_no_image_of_its_own(tmp_path):
    for name in ("ill", "well"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.hdr").write_bytes(b"")
        (tmp_path / name / "a.img").write_bytes(b"")
        (tmp_path / name / "b.mhd").write_text("ElementDataFile = b.raw\n")
        (tmp_path / name / "b.raw").write_bytes(b"")
    found = find_in_class_folders(tmp_path, None, {})
    assert [image for image, _, _ in rows(found)] == ["ill/a.hdr", "ill/b.mhd", "well/a.hdr", "well/b.mhd"]
    assert found.left_out == []


def test_single_class_folder_and_a_pattern_without_match_are_refused(tmp_path):
    write_image(tmp_path / "src" / "ill" / "x.png")
    with pytest.raises(BadSource, match="1 class folders"):
        find_in_class_folders(tmp_path / "src", None, {})
    write_image(tmp_path / "src" / "well" / "y.png")
    with pytest.raises(BadSource, match="does not match ill/x.png"):
        find_in_class_folders(tmp_path / "src", r"(p\d+)", {})
    for pattern, said in (("p(", "not a regular expression"), ("p", "needs a group")):
        with pytest.raises(BadSource, match=f"--patient-pattern.*{said}"):
            find_in_class_folders(tmp_path / "src", pattern, {})
