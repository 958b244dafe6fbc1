import re

import pytest

from pipeline.stages.cohort.statements import FIELDS
from pipeline.stages.release.card import TEMPLATE, as_cell
from pipeline.stages.release.checklist import ITEMS, answers

LETTERS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"}
TRIPOD = [f"{number}{letter}" for number in range(1, 28) for letter in LETTERS.get(number, [""])]
CARD = TEMPLATE.read_text()
NOTHING = dict.fromkeys(FIELDS, "")


def test_every_item_of_tripod_ai_has_its_answer_once():
    assert len(TRIPOD) == 52
    assert sorted(number for item in ITEMS for number in item.numbers.split()) == sorted(TRIPOD)


def test_items_name_the_section_that_holds_their_fields():
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", CARD, re.MULTILINE))
    for item in ITEMS:
        assert item.section in {"", *sections}
        assert item.by_run or item.fields or not item.section  # somebody answers
    for field in FIELDS:
        places = [title for title, text in sections.items() if f'said("{field}")' in text]
        named = {item.section for item in ITEMS if field in item.fields}
        assert len(places) == 1 and places[0] in named, field


@pytest.mark.parametrize(
    ("numbers", "said", "answer"),
    [
        ("17", {}, "People and terms; **open: ethics**"),
        ("17", {"ethics": "Number 5"}, "People and terms, by people"),
        ("16, 26", {}, "Limits, in part by the run; **open: limitations**"),
        ("16, 26", {"limitations": "Many"}, "Limits, by the run and people"),
        ("3b, 4", {"intended_use": "On adults"}, "Intended use; **open: out_of_scope**"),
        ("10", {}, "Gates, by the run"),
        ("13", {}, "Data, by the run"),
    ],
)
def test_an_answer_says_where_by_whom_and_what_is_open(numbers, said, answer):
    [row] = [row for row in answers(NOTHING | said) if row["numbers"] == numbers]
    assert row["answer"] == answer


def test_a_text_of_the_cohort_stays_in_its_cell():
    assert as_cell("a|b\n<script>") == "a\\|b &lt;script>"
