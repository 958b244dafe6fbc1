import numpy as np

from pipeline.metrics.questions import TOP_LABEL, questions_of

PREDICTIONS = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])


def test_of_two_classes_the_last_one_is_asked_for():
    [question] = questions_of(PREDICTIONS[:, :2], np.array([0, 1, 1]), ["well", "ill"])
    assert question.name == "ill"
    np.testing.assert_array_equal(question.prediction, PREDICTIONS[:, 1])
    np.testing.assert_array_equal(question.events, [False, True, True])


def test_of_several_classes_each_is_asked_for_and_the_most_probable_one():
    questions = questions_of(PREDICTIONS, np.array([0, 2, 2]), ["a", "b", "c"])
    assert [question.name for question in questions] == ["a", "b", "c", TOP_LABEL]
    np.testing.assert_array_equal(questions[2].events, [False, True, True])
    np.testing.assert_array_equal(questions[3].prediction, [0.6, 0.5, 0.7])
    np.testing.assert_array_equal(questions[3].events, [True, False, True])


def test_a_label_is_asked_for_only_where_it_is_known():
    labels = np.array([[1, np.nan, np.nan], [0, 1, np.nan], [np.nan, 0, np.nan]])
    first, second = questions_of(PREDICTIONS, labels, ["a", "b", "c"])
    np.testing.assert_array_equal(first.rows, [0, 1])
    np.testing.assert_array_equal(second.rows, [1, 2])
    np.testing.assert_array_equal(second.prediction, [0.5, 0.2])
    np.testing.assert_array_equal(second.events, [True, False])
