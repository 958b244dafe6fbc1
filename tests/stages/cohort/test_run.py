"""The stage cohort, run on a small project."""

import pytest
import yaml

from pipeline import params, paths
from pipeline.stages.cohort.statements import FIELDS
from tests.stages.clinic import RAW, cohort
from tests.stages.running import refusal, run


def test_texts_of_the_cohorts_card_reach_the_release(project, caplog):
    root = project()
    run("cohort")
    assert paths.read_json(paths.STATEMENTS) == dict.fromkeys(FIELDS, "")
    assert f"{RAW}/card.yaml has no text" in caplog.text
    (root / RAW / "card.yaml").write_text("ethics: Number 5.\n")
    caplog.clear()
    run("cohort")
    assert paths.read_json(paths.STATEMENTS) == dict.fromkeys(FIELDS, "") | {"ethics": "Number 5."}
    assert "card.yaml" not in caplog.text


def test_a_bad_card_is_refused_by_its_file_and_field(project, capsys):
    root = project()
    (root / RAW / "card.yaml").write_text(yaml.safe_dump({"ethic": "Number 5."}))
    assert f"{RAW}/card.yaml: unknown field 'ethic'" in refusal(capsys, "cohort")


def test_release_and_report_are_named_after_the_cohort(project):
    root = project(release__name="auto", release__description="auto", report__title="auto")
    run("cohort")
    handed = params.for_stage("report")
    assert handed.release.name == "clinic" and handed.report.title == "well or ill: clinic"
    said = "Classifies images as well or ill; cohort clinic, 30 images of 24 patients."
    assert handed.release.description == said
    (root / RAW / "cohort.yaml").write_text("release: {description: Finds blobs.}\nreport: {title: auto}\n")
    run("cohort")
    handed = params.for_stage("report")
    assert (handed.release.description, handed.report.title) == ("Finds blobs.", "well or ill: clinic")


def test_texts_of_the_demo_are_refused_for_another_cohort(project, capsys):
    root = project(release__name="auto")
    (root / "data" / "demo").mkdir()
    (root / "data" / "demo" / "cohort.yaml").write_text("release: {description: Ill or well.}")
    said = refusal(capsys, "cohort")
    assert "params.yaml: release.description is 'Ill or well.', the text of the demo, but cohort.path is" in said
    project(release__description="auto")
    for folder in (root / "data" / "demo", root / RAW):
        (folder / "card.yaml").write_text("ethics: Nobody was asked.\n")
    assert f"{RAW}/card.yaml: ethics is the text of the demo; write your own" in refusal(capsys, "cohort")
    (root / RAW / "card.yaml").unlink()
    run("cohort")


def test_labels_left_out_of_the_classes_are_excluded_not_refused(project, capsys):
    root = project()
    cohort(root, lambda table: table.assign(label=table["label"].where(table["site"] != "outside", "unclear")))
    run("cohort")
    facts, outside = paths.read_json(paths.COHORT_FACTS), 8 + 2  # patients, and their second images
    assert (facts["cases_refused"], facts["cases_excluded"]) == (0, outside)
    assert len(paths.read_table(paths.CASES)) == facts["cases_in"] - outside
    assert f"excluded  {outside}  label: 'unclear' is not a class" in capsys.readouterr().out


def test_classes_of_another_cohort_are_one_error_with_the_labels(project, capsys):
    project(cohort__classes=["control", "lesion"], cohort__positive=None)
    message = refusal(capsys, "cohort")
    assert "names control, lesion, but the labels of data/raw/clinic are 'well' (16), 'ill' (14); correct" in message


def test_a_cohort_without_patients_is_warned_of(project, caplog):
    root = project()
    cohort(root, lambda table: table.drop(columns="patient_id"))
    run("cohort")
    assert "every image counts as a patient, because no patient is named" in caplog.text
    assert f"fill the column patient_id of {RAW}/cohort.csv" in caplog.text


def test_the_folder_of_simulated_scans_is_never_empty(project):
    """DVC warns of an empty folder four times a run."""
    project()
    run("cohort")
    assert [file.name for file in paths.SIMULATED.iterdir()] == ["README.txt"]


def written():
    return [file for file in [*paths.DATA.rglob("*")] if file.is_file() and "raw" not in file.parts]


def test_a_label_of_one_patient_is_told_on_the_terminal_and_in_no_file(project, capsys):
    root = project()
    cohort(root, lambda table: table.assign(label=table["label"].where(table.index > 0, "CANARY Doe")))
    run("cohort")
    assert "excluded  1  label: 'CANARY Doe' is not a class" in capsys.readouterr().out
    assert "the label is not a class" in paths.AUDIT.read_text()
    assert not [file for file in written() if b"CANARY" in file.read_bytes()]


@pytest.mark.parametrize("text", ["CANARY {}", "CANARY born 1961-02-{}"])
@pytest.mark.parametrize("column", ["site", "label"])
def test_texts_about_persons_as_site_or_class_are_refused_unquoted(project, capsys, column, text):
    root = project(cohort__classes=[], cohort__positive=None)
    cohort(root, lambda table: table.assign(**{column: [text.format(10 + n) for n in range(len(table))]}))
    message = refusal(capsys, "cohort")
    assert column in message and "patients" in message and "CANARY" not in message
    assert not [file for file in written() if b"CANARY" in file.read_bytes()]


@pytest.mark.parametrize("way", ["above", "absolute", "link"])
def test_an_image_elsewhere_is_refused_unless_its_folder_is_declared(project, capsys, caplog, way):
    root = project()
    elsewhere = root / "elsewhere" / "Doe_00_0.png"
    elsewhere.parent.mkdir()
    (root / RAW / "Doe_00_0.png").rename(elsewhere)
    if way == "link":
        (root / RAW / "Doe_00_0.png").symlink_to(elsewhere)
    else:
        name = str(elsewhere) if way == "absolute" else "../../../elsewhere/Doe_00_0.png"
        cohort(root, lambda table: table.assign(image=table["image"].replace("Doe_00_0.png", name)))
    run("cohort")
    out = capsys.readouterr().out
    assert "refused   1  outside: it lies outside of the cohort's folder" in out and "cohort.roots decides" in out
    assert paths.read_json(paths.COHORT_FACTS)["cases_refused"] == 1
    project(cohort__roots=[str(root / "elsewhere")])
    caplog.clear()
    run("cohort")
    assert paths.read_json(paths.COHORT_FACTS)["cases_refused"] == 0
    assert ("1 images lie outside of data/raw/clinic, where DVC does not watch them" in caplog.text) == (way != "link")
