"""The stage cohort, run on a small project."""

import yaml

from pipeline import params, paths
from pipeline.stages.cohort.statements import FIELDS
from tests.stages.clinic import RAW
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
