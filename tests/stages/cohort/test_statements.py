import pytest

from pipeline.stages.cohort.statements import FIELDS, BadStatements, read_statements, template
from tests.conftest import ROOT


def test_what_people_say_is_read_and_what_they_leave_out_is_empty(tmp_path):
    (tmp_path / "card.yaml").write_text("ethics: |\n  Number 5,\n  of May.\ncontact:\n")
    found = read_statements(tmp_path / "card.yaml")
    assert found["ethics"] == "Number 5,\nof May." and list(found) == list(FIELDS)
    assert {text for field, text in found.items() if field != "ethics"} == {""}


def test_without_the_file_nothing_is_said(tmp_path):
    assert not any(read_statements(tmp_path / "card.yaml").values())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ethic: Number 5", "unknown field 'ethic'"),
        ("ethics: 5", "ethics is not text"),
        ("ethics: [a, b]", "ethics is not text"),
        ("- ethics", "not a mapping of fields"),
        ("ethics: {", "not valid YAML"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_with_the_reason(tmp_path, text, told):
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(BadStatements, match=told):
        read_statements(tmp_path / "card.yaml")


def test_the_card_of_the_demo_is_the_template_with_one_text():
    card = ROOT / "data" / "demo" / "card.yaml"
    purpose = read_statements(card)["intended_use"]
    assert purpose and card.read_text() == template().replace("intended_use:", f"intended_use: {purpose}")


def test_a_template_is_a_card_without_texts(tmp_path):
    (tmp_path / "card.yaml").write_text(template())
    assert read_statements(tmp_path / "card.yaml") == dict.fromkeys(FIELDS, "")
