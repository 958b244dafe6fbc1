"""The stage cohort, run on a small project."""

import yaml

from pipeline import paths
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
