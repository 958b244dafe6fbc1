import pytest

from pipeline.stages.report.blocks import blocks, colour_of, set_name


def rows(*pairs):
    return [{"scope": scope, "of": question} for scope, question in pairs]


def test_patients_come_before_images_and_the_top_label_before_the_classes():
    scopes = ["internal_patients", "internal", "external_patients", "external"]
    found = blocks(rows(*((scope, question) for scope in scopes for question in ("mild", "severe", "top label"))))
    assert [block.heading for block in found] == [
        "top label",
        "top label, image by image",
        "mild",
        "mild, image by image",
        "severe",
        "severe, image by image",
    ]
    assert list(found[0].sets) == ["internal_patients", "external_patients"]
    assert list(found[1].sets) == ["internal", "external"]


def test_one_question_has_no_heading():
    (block,) = blocks(rows(("internal", "ill"), ("external", "ill"), ("external", "ill")))
    assert block.heading == "" and block.question == "ill"
    assert [len(some) for some in block.sets.values()] == [1, 2]


def test_no_row_of_a_table_is_lost_or_shown_twice():
    table = rows(("internal_patients", "a"), ("internal", "b"), ("internal", "a"), ("test", "b"))
    shown = [row for block in blocks(table) for row in block.rows]
    assert len(shown) == len(table) and all(row in shown for row in table)
    assert blocks([]) == []


def test_table_without_questions_is_one_block():
    assert [block.question for block in blocks([{"scope": "internal"}])] == [""]
    table = [{"scope": "external", "class": name} for name in ("edema", "mass")]
    assert [block.heading for block in blocks(table, "class")] == ["edema", "mass"]


@pytest.mark.parametrize(
    ("scope", "name"),
    [("internal_patients", "internal validation"), ("external", "external validation"), ("test", "test set")],
)
def test_only_another_site_is_called_external(scope, name):
    assert set_name(scope) == name


def test_internal_and_external_have_different_colours():
    assert colour_of("internal") == colour_of("internal_patients") != colour_of("external_patients")
