import numpy as np

from pipeline.stages.explain.errors import most_confident_errors


def test_the_most_confident_errors_come_first():
    prediction = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    found = most_confident_errors(prediction, np.array([1, 1, 0, 0]), ["well", "ill"], 2)
    assert found["row"].tolist() == [0, 3] and found["probability"].tolist() == [0.9, 0.7]
    assert found["label"].tolist() == ["ill", "well"] and found["prediction"].tolist() == ["well", "ill"]
    assert found["asked"].tolist() == [0, 1]


def test_of_many_classes_the_most_probable_one_is_the_prediction():
    prediction = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    found = most_confident_errors(prediction, np.array([1, 0]), ["a", "b", "c"], 9)
    assert found[["row", "label", "prediction", "asked"]].to_numpy().tolist() == [[0, "b", "c", 2]]


def test_each_known_label_may_be_an_error_and_unknown_ones_may_not():
    prediction = np.array([[0.9, 0.1, 0.95], [0.4, 0.2, 0.5]])
    labels = np.array([[0.0, 1.0, np.nan], [0.0, 1.0, 1.0]])
    found = most_confident_errors(prediction, labels, ["cyst", "node", "fluid"], 9)
    assert found[["row", "label", "prediction", "asked"]].to_numpy().tolist() == [
        [0, "no cyst", "cyst", 0],
        [0, "node", "no node", 1],
        [1, "node", "no node", 1],
    ]
    assert found["probability"].tolist() == [0.9, 0.9, 0.8]


def test_without_a_mistake_the_table_is_empty():
    assert most_confident_errors(np.eye(2), np.array([0, 1]), ["a", "b"], 5).empty
