import pytest

from pipeline.params_text import with_value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1 # x\ncohort:\n  # y\n  path: old # z\n", "a: 1 # x\ncohort:\n  # y\n  path: new # z\n"),
        ("cohort: {path: old}\n", "cohort: {path: new}\n"),
        ("cohort:\n  # y\n  public: true\n", "cohort:\n  # y\n  path: new\n  public: true\n"),
        ("seed: 1\n", "seed: 1\n\ncohort:\n  path: new\n"),
        ("", "cohort:\n  path: new\n"),
    ],
)
def test_one_value_changes_and_the_rest_stays(text, expected):
    assert with_value(text, "cohort", "path", "new") == expected


def test_a_value_that_yaml_would_misread_is_quoted():
    assert with_value("", "cohort", "path", "1: 2") == "cohort:\n  path: '1: 2'\n"


@pytest.mark.parametrize(
    "text", ["cohort: {public: true}\n", "{cohort: {}}\n", "- a\n", "a: {", "cohort: &x\n  path: a\nother: *x\n"]
)
def test_a_file_of_another_kind_is_refused(text):
    with pytest.raises(ValueError, match="is not"):
        with_value(text, "cohort", "path", "new")
