"""Every kind of source of `import`, through the command line."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml
from PIL import Image

from pipeline import params, paths
from pipeline.__main__ import build_parser, main
from pipeline.commands.import_ import KINDS
from pipeline.imaging.tables.cohort_table import read_cohort_table
from tests.conftest import ROOT, shared
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
    rename = ["--rename", "0=sick" if kind is medmnist else "ill=sick"]
    assert main(["import", kind.__name__, str(kind(source)), "--into", str(tmp_path / "raw"), *more, *rename]) == 0
    cohort = read_cohort_table(tmp_path / "raw")
    assert cohort["label"][0] == "sick" and all((tmp_path / "raw" / image).exists() for image in cohort["image"])
    printed = capsys.readouterr().out
    assert f"set `cohort.path: {tmp_path / 'raw'}`" in printed
    assert "left out: 0" in printed  # a table of labels beside the scans is none of them


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


def table_of(root, classes=("benign", "malignant"), per_class=15):
    """Write images of two classes with ages, sexes and a column that tells who somebody is."""
    rows = ["file,diagnosis,age,sex,hospital_number"]
    for number in range(2 * per_class):
        ill = number % 2
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        rows.append(f"{number}.png,{classes[ill]},{40 + number % 9},{'FM'[number // 2 % 2]},{4711000 + number * 37}")
    (root / "patients.csv").write_text("\n".join(rows))
    return str(root / "patients.csv")


def test_import_proposes_settings_with_reasons(source, tmp_path, capsys):
    columns = ["--image", "file", "--label", "diagnosis"]
    assert main(["import", "csv", table_of(source), "--into", str(tmp_path / "My clinic"), *columns]) == 0
    text = (tmp_path / "My clinic" / "cohort.yaml").read_text()
    assert yaml.safe_load(text) == {
        "cohort": {"task": "multiclass", "classes": ["benign", "malignant"], "positive": "malignant"},
        "split": {"test": "patients"},
        "calibrate": {"subgroups": ["age", "sex"], "baseline": ["age", "sex"]},
    }
    assert "# The name 'benign' means the absence of a finding." in text
    assert "hospital_number" not in pd.read_csv(tmp_path / "My clinic" / "cohort.csv")
    assert "then run `medadapt plan`" in capsys.readouterr().out


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_imported_cohort_runs_with_nothing_but_its_path_changed(project, source, by_hand):  # noqa: F811
    columns = ["--image", "file", "--label", "diagnosis"]
    assert main(["import", "csv", table_of(source), "--into", "data/raw/mine", *columns]) == 0
    if by_hand:
        (Path("data/raw/mine") / "cohort.yaml").unlink()
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["cohort"]["path"] = "data/raw/mine"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    for stage in ("cohort", "preprocess", "split"):
        assert main([stage]) == 0
    facts = paths.read_json(paths.COHORT_FACTS)
    assert (facts["classes"], facts["positive"], facts["public"]) == (["benign", "malignant"], "malignant", False)
    assert paths.read_json(paths.SPLIT_SUMMARY)["test"] == "patients"
    handed = params.for_stage("calibrate")
    assert (handed.calibrate.test, handed.split.test) == ("closed", "patients")
    assert handed.calibrate.subgroups == (() if by_hand else ("age", "sex"))


def test_absent_columns_are_left_out_with_a_warning(project, caplog):  # noqa: F811
    project(calibrate__subgroups=["height"], calibrate__baseline=["height"])
    assert main(["cohort"]) == 0
    assert "no column height; calibrate goes on without it" in caplog.text


def table_of_images(root, name="t.csv"):
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    rows = [(f"{number}.png", "ill" if number % 2 else "well", f"p{number}") for number in range(6)]
    pd.DataFrame(rows, columns=["file", "label", "who"]).to_csv(root / name, index=False)
    return str(root / name)


def test_what_was_taken_and_what_to_set_are_printed(project, tmp_path, capsys):  # noqa: F811
    project()
    words = ["--into", "data/raw/new", "--image", "file", "--patient", "who"]
    assert main(["import", "csv", table_of_images(tmp_path), *words]) == 0
    printed = capsys.readouterr().out
    assert "taken: 6 images of 6 patients" in printed and "cohort.path: data/raw/new" in printed


def test_a_wrong_column_is_refused_by_its_option(project, tmp_path, capsys):  # noqa: F811
    project()
    assert main(["import", "csv", table_of_images(tmp_path), "--into", "data/raw/new"]) == 1
    assert "name it with --image" in capsys.readouterr().err


def test_covid_ct_is_imported_whole(tmp_path, capsys):
    source = shared("covid_ct") / "labels.csv"
    columns = ["--image", "file", "--patient", "patient", "--split", "split", "--rename", "0=noncovid", "1=covid"]
    assert main(["import", "csv", str(source), "--into", str(tmp_path / "covid"), "--link", *columns]) == 0
    printed = capsys.readouterr().out
    assert "taken: 746 images" in printed and "left out: 0" in printed
    assert "test, covid: 98" in printed and "test, noncovid: 105" in printed


def test_use_sets_the_path_in_params_yaml_and_keeps_comments(project, source, capsys):  # noqa: F811
    root = project()
    (root / "params.yaml").write_bytes(b"# ours\r\ncohort:\n  path: data/demo  # the demo\nseed: 1  # any\n")
    assert main(["import", "csv", str(csv(source)), "--into", str(root / "data" / "raw" / "mine"), "--use"]) == 0
    expected = b"# ours\r\ncohort:\n  path: data/raw/mine  # the demo\nseed: 1  # any\n"
    assert (root / "params.yaml").read_bytes() == expected
    assert "params.yaml: cohort.path is now" in (told := capsys.readouterr().out) and "then run `medadapt plan`" in told


def test_use_declares_the_folder_that_links_lead_to(project, source, capsys):  # noqa: F811
    root = project()
    (root / "params.yaml").write_text("cohort:\n  path: data/demo\n")
    words = ["import", "csv", str(csv(source)), "--into", str(root / "data" / "raw" / "mine"), "--link"]
    assert main([*words, "--use"]) == 0
    folder = csv(source).parent.resolve()
    assert (root / "params.yaml").read_text() == f"cohort:\n  roots: [{folder}]\n  path: data/raw/mine\n"


def test_use_without_params_yaml_is_refused_before_anything_is_written(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["import", "csv", str(csv(source)), "--into", str(tmp_path / "raw"), "--use"]) == 1
    assert "--use: params.yaml is not here" in capsys.readouterr().err and not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("make", "cure"), [(csv, "with --patient COLUMN"), (folder, "--patient-pattern"), (datalist, '"patient" into each')]
)
def test_unknown_patients_are_warned_of_with_the_cure(source, tmp_path, capsys, make, cure):
    assert main(["import", make.__name__, str(make(source)), "--into", str(tmp_path / "raw")]) == 0
    out, errors = capsys.readouterr()
    assert "of unknown patients" in out
    assert errors.startswith("WARNING: every image counts as a patient") and cure in errors


@pytest.mark.parametrize("kind", KINDS)
def test_help_of_every_kind_shows_an_example_that_parses(kind, capsys):
    with pytest.raises(SystemExit):
        main(["import", kind, "--help"])
    (example,) = re.findall(rf"^  medadapt (import {kind} .*)", capsys.readouterr().out, re.MULTILINE)
    assert build_parser().parse_args(shlex.split(example)).kind == kind
