"""The metrics of each window."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from pipeline.commands.monitor.windows import spans, windows


@pytest.fixture(scope="module")
def predicted():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=250)
    shift = np.where(np.arange(250) < 100, 0, 1.5)
    return expit(logits), rng.random(250) < expit(logits + shift), np.array([f"patient-{k // 2}" for k in range(250)])


def test_a_small_rest_joins_the_last_window():
    assert spans(249, 100) == [(0, 100), (100, 249)]
    assert spans(251, 100) == [(0, 100), (100, 200), (200, 251)]
    assert spans(30, 100) == [(0, 30)]


def test_each_window_has_its_own_metrics(predicted):
    table = windows(*predicted, size=100, seed=0)
    assert table[["from", "to", "n"]].to_numpy().tolist() == [[1, 100, 100], [101, 200, 100], [201, 250, 50]]
    assert table["auc"][0] == pytest.approx(roc_auc_score(predicted[1][:100], predicted[0][:100]))
    assert table["calibration_intercept_lower"][0] < 0 < table["calibration_intercept_upper"][0]
    assert table["calibration_intercept_lower"][1] > 0
    assert table["observed_expected_lower"][1] > 1


def test_a_window_of_few_events_has_no_metrics(predicted):
    table = windows(predicted[0][:50], np.arange(50) < 9, predicted[2][:50], size=50, seed=0)
    assert table["events"].tolist() == [9] and table["auc"].isna().all()
