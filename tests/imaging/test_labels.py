import numpy as np
import pytest

from pipeline.imaging.labels import classes_in, flaw_of, names_in, targets_of, task_of


def test_a_finding_is_present_absent_or_unknown():
    targets = targets_of(["edema;?mass", "no finding;? mass", "?edema", " mass ", ""], ["edema", "mass"], "multilabel")
    there, absent, unknown = 1, 0, np.nan
    expected = [[there, unknown], [absent, unknown], [unknown, absent], [absent, there], [unknown, unknown]]
    np.testing.assert_array_equal(targets, expected)


@pytest.mark.parametrize("task", ["multiclass", "ordinal"])
def test_rows_of_multiclass_labels_are_one_hot_and_marks_part_of_names(task):
    classes = ["?", "a;b", "no finding"]
    np.testing.assert_array_equal(targets_of(["a;b", "?", "no finding"], classes, task), np.eye(3)[[1, 0, 2]])
    assert names_in("a;b", task) == ["a;b"] and classes_in(["a;b", "", "?"], task) == ["?", "a;b"]


def test_classes_are_the_names_within_labels_known_or_not():
    labels = ["edema; ?mass", "no finding", "", "nodule", "?", "?no finding"]
    assert classes_in(labels, "multilabel") == ["edema", "mass", "nodule"]


@pytest.mark.parametrize(
    ("labels", "task"),
    [(["a", "b;c"], "multilabel"), (["a", "?b", ""], "multilabel"), (["a", "no finding", ""], "multiclass")],
)
def test_a_semicolon_or_a_question_mark_makes_a_cohort_multilabel(labels, task):
    assert task_of(labels) == task


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("edema;mass;edema", "'edema' is named twice"),
        ("edema;?edema", "'edema' is named twice"),
        ("no finding;edema", "'no finding' is combined with 'edema'"),
        ("edema;?", "without a name"),
        (" ; ", "names no class"),
        ("?no finding", "names no class"),
    ],
)
def test_a_label_that_contradicts_itself_or_names_nothing_is_reported(label, said):
    assert said in flaw_of(label, "multilabel") and flaw_of(label, "multiclass") == ""


@pytest.mark.parametrize("label", ["", "edema", "edema;?mass", "?edema", "no finding", "no finding;?mass"])
def test_a_label_that_can_be_read_has_no_flaw(label):
    assert flaw_of(label, "multilabel") == ""


def test_a_name_that_is_no_class_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="the label 'mass' is not one of the classes edema"):
        targets_of(["edema;?mass"], ["edema"], "multilabel")
