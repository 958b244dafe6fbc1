"""Every kind of source, through the command line."""

import json

import numpy as np
import pydicom
import pytest

from pipeline.__main__ import main
from pipeline.imaging.tables.cohort_table import read_cohort_table
from tests.stages.cohort.importers.conftest import dicom_series, volume, write_image
from tests.stages.conftest import project  # noqa: F401 - a fixture


def csv(root):
    write_image(root / "a.png")
    (root / "t.csv").write_text("image,label\na.png,ill\n")
    return root / "t.csv"


def folder(root):
    for label in ("ill", "well"):
        write_image(root / label / "a.png")
    return root


def bids(root):
    volume(root / "sub-1" / "anat" / "sub-1_T1w.nii.gz")
    (root / "participants.tsv").write_text("participant_id\tlabel\nsub-1\till\n")
    return root


def datalist(root):
    write_image(root / "a.png")
    (root / "dataset.json").write_text(json.dumps({"training": [{"image": "a.png", "label": "ill"}]}))
    return root / "dataset.json"


def medmnist(root):
    arrays = {"train_images": np.arange(784, dtype=np.uint8).reshape(1, 28, 28), "train_labels": np.array([[0]])}
    np.savez(root / "new.npz", **arrays)
    return root / "new.npz"


def dicom(root):
    dicom_series(root / "scan", InstitutionName="St Mary")
    (root / "labels.csv").write_text("patient,label\nP1,ill\n")
    return root


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.mark.parametrize("kind", [csv, folder, bids, datalist, medmnist, dicom])
def test_every_kind_becomes_a_cohort_with_labels(source, tmp_path, capsys, kind):
    more = ["--labels", str(source / "labels.csv")] if kind is dicom else []
    rename = ["--rename", "0=ill"]
    assert main(["import", kind.__name__, str(kind(source)), "--into", str(tmp_path / "raw"), *more, *rename]) == 0
    cohort = read_cohort_table(tmp_path / "raw")
    assert cohort["label"][0] == "ill" and all((tmp_path / "raw" / image).exists() for image in cohort["image"])
    assert f"set `cohort.path: {tmp_path / 'raw'}`" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "folder", "bids", "datalist", "medmnist", "dicom"])
def test_a_source_that_is_not_there_is_an_error_and_no_traceback(tmp_path, capsys, kind):
    assert main(["import", kind, str(tmp_path / "nowhere"), "--into", str(tmp_path / "raw")]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and "nowhere" in printed
    assert not (tmp_path / "raw").exists()


def test_an_option_of_another_kind_is_refused(source, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["import", "csv", str(csv(source)), "--into", str(tmp_path / "raw"), "--suffix", "T1w"])
    assert "unrecognized arguments: --suffix T1w" in capsys.readouterr().err


def test_images_of_an_npz_file_cannot_be_linked_to(source, tmp_path, capsys):
    assert main(["import", "medmnist", str(medmnist(source)), "--into", str(tmp_path / "raw"), "--link"]) == 1
    assert "leave out --link" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(source, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["import", "csv", str(csv(source)), "--into", str(tmp_path / "file" / "raw")]) == 1
    assert f"error: {tmp_path / 'file'}" in capsys.readouterr().err


def test_sites_and_patients_of_dicom_are_told_by_whois_alone(project, source, capsys):  # noqa: F811
    root = project(cohort__path="data/raw/hospital")
    assert main(["import", "dicom", str(dicom(source)), "--into", "data/raw/hospital"]) == 0
    printed = capsys.readouterr().out
    cohort = read_cohort_table(root / "data" / "raw" / "hospital")
    assert cohort["site"].str.fullmatch("site-[0-9a-f]{6}").all() and f"{cohort['site'][0]}: St Mary" in printed
    assert "St Mary" not in (root / "data" / "raw" / "hospital" / "cohort.csv").read_text()
    assert main(["whois", cohort["site"][0]]) == 0
    assert capsys.readouterr().out == f"{cohort['site'][0]}  St Mary\n"


def test_the_patient_in_a_copied_header_is_the_one_of_the_cohort(project, source, capsys):  # noqa: F811
    root = project(cohort__path="data/raw/hospital")
    main(["import", "dicom", str(dicom(source)), "--into", "data/raw/hospital"])
    image = next((root / "data" / "raw" / "hospital" / "images").rglob("*.dcm"))
    capsys.readouterr()
    assert main(["whois", pydicom.dcmread(image).PatientID]) == 0
    assert capsys.readouterr().out.endswith("  P1\n")
