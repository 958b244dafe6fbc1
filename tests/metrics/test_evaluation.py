from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.calibrators.fitting import Temperature, digest_of
from pipeline.metrics.evaluation import (
    ENSEMBLE,
    TaskSpec,
    auc_of_folds,
    by_fold,
    calibrators_of_folds,
    class_table,
    evaluated_across,
    evaluated_by,
    mean_of_tables,
    other_folds,
    prediction_table,
    roc_table,
    summary_of,
)
from pipeline.metrics.guards import MissingCases


def evaluated(n=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    cases = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(n)],
            "patient": [f"p{i // 6}-{i % 3}" for i in range(n)],
            "label": np.array(["well", "ill"])[labels],
            "fold": np.array(["0", "1", "2"])[np.arange(n) % 3],
            "logit_0": 0.0,
            "logit_1": labels + rng.normal(size=n),
        }
    )
    site = softmax(rng.normal(size=(n, 2)), axis=1)
    return replace(evaluated_by(Temperature(2.0), cases, labels), baselines={"site": site})


def test_predictions_come_from_the_logits_before_and_after_the_temperature():
    one = evaluated()
    evidence = one.cases["logit_1"].to_numpy()
    np.testing.assert_allclose(one.uncalibrated[:, 1], 1 / (1 + np.exp(-evidence)))
    np.testing.assert_allclose(one.calibrated[:, 1], 1 / (1 + np.exp(-evidence / 2)))
    assert (one.labels == (one.cases["label"] == "ill")).all()


def test_the_folds_hold_every_case_once_with_its_own_prediction():
    one = evaluated()
    parts = by_fold(one)
    assert list(parts) == ["0", "1", "2"] and sum(len(part.labels) for part in parts.values()) == 60
    for fold, part in parts.items():
        assert set(part.cases["fold"]) == {fold}
        np.testing.assert_array_equal(part.calibrated, one.calibrated[part.cases.index])
        assert (part.patients == part.cases["patient"]).all()


def test_auc_of_folds_gives_the_mean_of_folds_and_the_auc_of_the_site():
    one = evaluated()
    found = auc_of_folds(one, one.calibrated, Bootstrap(200, 0.95, 0))
    mean = np.mean([roc_auc_score(part.labels, part.calibrated[:, 1]) for part in by_fold(one).values()])
    assert found["auc_mean_of_folds"] == pytest.approx(mean, abs=1e-6)
    alone = [roc_auc_score(part.labels, part.baselines["site"][:, 1]) for part in by_fold(one).values()]
    assert found["auc_of_site_alone"] == pytest.approx(np.mean(alone), abs=1e-6)


def test_a_class_has_the_numbers_of_the_summary_with_their_intervals():
    one, spec, bootstrap = evaluated(), TaskSpec(["well", "ill"]), Bootstrap(200, 0.95, 0)
    pooled = summary_of(one, one.calibrated, spec, bins=10, bootstrap=bootstrap)
    table = class_table(one, spec, bootstrap).set_index("class")
    for name, column, label in (
        ("auc", "auc", "ill"),
        ("sensitivity", "sensitivity", "ill"),
        ("specificity", "sensitivity", "well"),
    ):
        found = table.loc[label, [column, f"{column}_lower", f"{column}_upper"]].to_list()
        assert found == pytest.approx(list(pooled[name].values()), abs=1e-6), name


def test_the_curve_runs_from_corner_to_corner_over_the_area():
    one = evaluated()
    curve = roc_table(one)
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(roc_auc_score(one.labels, one.calibrated[:, 1]))


def test_the_table_of_predictions_leaves_the_cases_as_they_were():
    one = evaluated()
    table = prediction_table(one, "internal")
    assert "probability_1" not in one.cases
    assert set(table["scope"]) == {"internal"}
    np.testing.assert_array_equal(table["probability_1"], one.calibrated[:, 1])


def test_pooled_is_off_only_if_the_scores_of_folds_are_offset():
    rng = np.random.default_rng(0)
    one = evaluated(600)
    evidence = one.cases["logit_1"] + one.cases["fold"].astype(int) * 3
    offset = replace(one, uncalibrated=softmax(np.stack([0 * evidence, evidence], axis=1), axis=1))
    found = auc_of_folds(offset, offset.uncalibrated, Bootstrap(200, 0.95, 0))
    assert found["pooled_is_off"] and found["auc_of_folds_less_pooled"]["lower"] > 0.02
    fair = auc_of_folds(one, one.uncalibrated, Bootstrap(200, 0.95, int(rng.integers(100))))
    assert not fair["pooled_is_off"] and abs(fair["auc_of_folds_less_pooled"]["value"]) < 0.02


def test_what_sets_the_thresholds_of_a_fold_knows_none_of_its_labels():
    cases, labels = evaluated(240).cases, evaluated(240).labels
    inside = (cases["fold"] == "1").to_numpy()
    before, after = (evaluated_across(cases, some, "platt") for some in (labels, np.where(inside, 1 - labels, labels)))
    one, other = other_folds(before)["1"], other_folds(after)["1"]
    np.testing.assert_array_equal(one.calibrated, other.calibrated)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert not set(one.patients) & set(cases.loc[inside, "patient"])
    assert (before.calibrated[inside] == after.calibrated[inside]).all()
    assert (before.calibrated[~inside] != after.calibrated[~inside]).any()


def test_every_row_names_the_map_that_evaluated_it():
    pooled = evaluated_across(evaluated(240).cases, evaluated(240).labels, "temperature")
    for fold, calibrator in calibrators_of_folds(pooled).items():
        rows = pooled.folds == fold
        assert set(pooled.cases.loc[rows, "calibrator"]) == {digest_of(calibrator)}
        logits = pooled.cases.loc[rows, ["logit_0", "logit_1"]].to_numpy()
        np.testing.assert_array_equal(pooled.calibrated[rows], calibrator.apply(logits))


def test_mean_of_tables_averages_by_case_in_any_order():
    first = evaluated(6).cases.assign(model_sha256="a")
    second = first.assign(logit_1=first["logit_1"] + 1, model_sha256="b").iloc[::-1]
    joined = mean_of_tables([first, second]).set_index("case")
    np.testing.assert_allclose(joined["logit_1"], first.set_index("case")["logit_1"].loc[joined.index] + 0.5)
    assert set(joined["fold"]) == {ENSEMBLE} and joined["model_sha256"].nunique() == 1
    assert mean_of_tables([first]).equals(first.sort_values("case", ignore_index=True))
    with pytest.raises(MissingCases, match="missing"):
        mean_of_tables([first, second.iloc[1:]])
