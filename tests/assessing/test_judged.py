import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from pipeline.assessing.calibrators import Temperature
from pipeline.assessing.judged import auc_of_folds, by_fold, forecast_table, judged_by, roc_table


def judged(n=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    cases = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(n)],
            "patient": [f"p{i // 2}" for i in range(n)],
            "label": np.array(["well", "ill"])[labels],
            "fold": np.array(["0", "1", "2"])[np.arange(n) % 3],
            "site_forecast": list(softmax(rng.normal(size=(n, 2)), axis=1)),
            "logit_0": 0.0,
            "logit_1": labels + rng.normal(size=n),
        }
    )
    return judged_by(Temperature(2.0), cases, ["well", "ill"])


def test_forecasts_come_from_the_logits_before_and_after_the_temperature():
    one = judged()
    evidence = one.cases["logit_1"].to_numpy()
    np.testing.assert_allclose(one.uncalibrated[:, 1], 1 / (1 + np.exp(-evidence)))
    np.testing.assert_allclose(one.calibrated[:, 1], 1 / (1 + np.exp(-evidence / 2)))
    assert (one.labels == (one.cases["label"] == "ill")).all()


def test_the_folds_hold_every_case_once_with_its_own_forecast():
    one = judged()
    parts = by_fold(one)
    assert list(parts) == ["0", "1", "2"] and sum(len(part.labels) for part in parts.values()) == 60
    for fold, part in parts.items():
        assert set(part.cases["fold"]) == {fold}
        np.testing.assert_array_equal(part.calibrated, one.calibrated[part.cases.index])
        assert (part.patients == part.cases["patient"]).all()


def test_the_mean_of_the_folds_and_the_site_alone_stand_beside_the_pooled_auc():
    one = judged()
    found = auc_of_folds(one, one.calibrated)
    mean = np.mean([roc_auc_score(part.labels, part.calibrated[:, 1]) for part in by_fold(one).values()])
    assert found["auc_mean_of_folds"] == pytest.approx(mean, abs=1e-6)
    of_site = np.stack(one.cases["site_forecast"].to_list())[:, 1]
    assert found["auc_of_site_alone"] == pytest.approx(roc_auc_score(one.labels, of_site), abs=1e-6)


def test_the_curve_runs_from_corner_to_corner_over_the_area():
    one = judged()
    curve = roc_table(one)
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(roc_auc_score(one.labels, one.calibrated[:, 1]))


def test_the_table_of_forecasts_leaves_the_cases_as_they_were():
    one = judged()
    table = forecast_table(one, "internal")
    assert "site_forecast" not in table and "probability_1" not in one.cases
    assert set(table["scope"]) == {"internal"}
    np.testing.assert_array_equal(table["probability_1"], one.calibrated[:, 1])
