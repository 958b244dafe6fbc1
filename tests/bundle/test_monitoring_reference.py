"""What is kept of development cases, to compare new ones with."""

import numpy as np
import pandas as pd
import pytest

from pipeline.bundle.monitoring_reference import reference_of

LABELS = np.array([0, 1, 1, 0])


def predictions(**columns):
    table = pd.DataFrame({"patient": ["b", "a", "b", "c"]})
    return table.assign(probability_0=[0.9, 0.2, 0.5, 0.6], ood_score=[3.0, 1.0, 9.0, 2.0], **columns)


def test_one_scan_of_each_patient_is_kept_in_sorted_order():
    known = reference_of(predictions(probability_1=[0.1, 0.8, 0.5, 0.4]), LABELS, ["x", "y"], scans=5, refused=1)
    assert known["patients"] == 3 and (known["scans"], known["refused"]) == (5, 1)
    assert known["predictions"] == {"y": [0.1, 0.4, 0.8]}
    assert known["ood_score"] == [1, 2, 3]
    assert known["log_loss"] == pytest.approx(sorted(-np.log([0.9, 0.8, 0.6])), abs=1e-6)


def test_every_class_of_more_than_two_is_watched():
    table = predictions(probability_1=[0.1, 0.5, 0.3, 0.2], probability_2=[0.0, 0.3, 0.2, 0.2])
    assert list(reference_of(table, LABELS, ["x", "y", "z"], 4, 0)["predictions"]) == ["x", "y", "z"]


def test_every_label_of_a_multilabel_task_has_losses_where_it_is_known():
    table = predictions(probability_1=[0.1, 0.8, 0.5, 0.4])
    labels = np.array([[1, np.nan], [0, 1], [0, 0], [1, 0]])  # the third is a second scan of patient b
    known = reference_of(table, labels, ["x", "y"], 4, 0)
    assert known["predictions"] == {"x": [0.2, 0.6, 0.9], "y": [0.1, 0.4, 0.8]}
    assert known["log_loss"]["x"] == pytest.approx(sorted(-np.log([0.9, 0.8, 0.6])), abs=1e-6)
    assert known["log_loss"]["y"] == pytest.approx(sorted(-np.log([0.8, 0.6])), abs=1e-6)


def test_a_label_that_is_known_of_no_patient_has_no_loss():
    table = predictions(probability_1=[0.1, 0.8, 0.5, 0.4])
    known = reference_of(table, np.array([[1, np.nan]] * 4), ["x", "y"], 4, 0)
    assert list(known["log_loss"]) == ["x"]
