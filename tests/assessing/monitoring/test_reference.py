"""What is kept of development cases, to compare new ones with."""

import numpy as np
import pandas as pd
import pytest

from pipeline.assessing.monitoring.reference import reference_of


def forecasts(**columns):
    table = pd.DataFrame({"patient": ["b", "a", "b", "c"], "label": ["x", "y", "y", "x"]})
    return table.assign(probability_0=[0.9, 0.2, 0.5, 0.6], ood_score=[3.0, 1.0, 9.0, 2.0], **columns)


def test_one_scan_of_each_patient_is_kept_in_an_order_that_tells_nothing_of_rows():
    known = reference_of(forecasts(probability_1=[0.1, 0.8, 0.5, 0.4]), ["x", "y"], scans=5, refused=1)
    assert known["patients"] == 3 and (known["scans"], known["refused"]) == (5, 1)
    assert known["forecasts"] == {"y": [0.1, 0.4, 0.8]}
    assert known["ood_score"] == [1, 2, 3]
    assert known["log_loss"] == pytest.approx(sorted(-np.log([0.9, 0.8, 0.6])), abs=1e-6)


def test_every_class_of_more_than_two_is_watched():
    table = forecasts(probability_1=[0.1, 0.5, 0.3, 0.2], probability_2=[0.0, 0.3, 0.2, 0.2])
    assert list(reference_of(table, ["x", "y", "z"], 4, 0)["forecasts"]) == ["x", "y", "z"]


def test_labels_that_stand_each_by_itself_have_no_loss():
    table = forecasts(probability_1=[0.1, 0.8, 0.5, 0.4]).assign(label="x;y")
    assert reference_of(table, ["x", "y"], 4, 0)["log_loss"] is None
