"""Late fusion of the image's log-odds with columns."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from pipeline.metrics.columns import InputColumn
from pipeline.metrics.evaluation import evaluated_by
from pipeline.metrics.fusion import fit_fusion, fusion_from

COLUMNS = [InputColumn("age", "numeric"), InputColumn("scanner", "categorical", ("a", "b"))]


def cases_of(n=120, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    age, scanner, logits = rng.normal(60, 10, n), rng.integers(0, 2, n), rng.normal(size=(n, classes))
    table = pd.DataFrame({"column_age": age.round(1).astype(str), "column_scanner": np.array(["a", "b"])[scanner]})
    for number in range(classes):
        table[f"logit_{number}"] = logits[:, number]
    names = [str(number) for number in range(n)]
    labels = (logits + 0.1 * (age[:, None] - 60) * np.arange(classes) + rng.gumbel(size=(n, classes))).argmax(axis=1)
    return table.assign(case=names, patient=names, fold="0", site=""), labels


def test_two_classes_are_those_of_scikit_learn_on_standardised_values():
    cases, labels = cases_of()
    odds, age = cases["logit_1"] - cases["logit_0"], cases["column_age"].astype(float)
    dummies = np.stack([cases["column_scanner"] == one for one in "ab"], axis=1).astype(float)
    values = np.column_stack([(odds - odds.mean()) / odds.std(ddof=0), (age - age.mean()) / age.std(ddof=0), dummies])
    expected = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(values, labels).predict_proba(values)
    found = evaluated_by(fit_fusion(cases, labels, COLUMNS), cases, labels)
    assert found.calibrated == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fusion_is_written_and_read_back_with_the_same_predictions(classes):
    cases, labels = cases_of(classes=classes)
    fusion = fit_fusion(cases, labels, COLUMNS)
    again = fusion_from(fusion.as_json())
    assert again == fusion
    assert (evaluated_by(again, cases, labels).calibrated == evaluated_by(fusion, cases, labels).calibrated).all()
    assert evaluated_by(fusion, cases, labels).calibrated.sum(axis=1) == pytest.approx(1)


def test_the_formula_of_the_docstring_gives_the_probability():
    cases, labels = cases_of()
    values = fit_fusion(cases, labels, COLUMNS).as_json()
    row = cases.iloc[0]
    features = [float(row["column_age"]), float(row["column_scanner"] == "a"), float(row["column_scanner"] == "b")]
    assert values["features"] == ["age", "scanner = a", "scanner = b"]
    odds = values["intercepts"][0] + values["image_weights"][0][0] * (row["logit_1"] - row["logit_0"])
    odds += np.dot(values["column_weights"][0], features)
    found = evaluated_by(fusion_from(values), cases, labels).calibrated[0, 1]
    assert found == pytest.approx(1 / (1 + np.exp(-odds)))


def test_each_label_of_several_uses_its_own_logit_and_known_cases():
    cases, labels = cases_of(classes=3)
    several = np.eye(3)[labels]
    several[:10, 1] = np.nan
    fusion = fit_fusion(cases, several, COLUMNS)
    weights = np.array(fusion.image_weights)
    assert (weights[~np.eye(3, dtype=bool)] == 0).all() and (np.diag(weights) != 0).all()
    assert ((evaluated_by(fusion, cases, several).calibrated > 0).all()) and fusion.activation == "sigmoid"
    again = fit_fusion(cases.assign(logit_1=cases["logit_1"].where(cases.index >= 10, 99.0)), several, COLUMNS)
    assert again.column_weights[1] == fusion.column_weights[1]


def test_the_logits_of_the_image_are_kept_and_fusing_twice_changes_nothing():
    cases, labels = cases_of()
    fusion = fit_fusion(cases, labels, COLUMNS)
    once = fusion.fused(cases)
    assert (once["image_1"] == cases["logit_1"]).all()
    assert fusion.fused(once).equals(once)
    assert fit_fusion(once, labels, COLUMNS) == fusion


def test_a_prediction_does_not_depend_on_the_cases_beside_it():
    cases, labels = cases_of(classes=3)
    fusion = fit_fusion(cases, labels, COLUMNS)
    alone = fusion.fuse(cases[["logit_0", "logit_1", "logit_2"]].to_numpy()[:1], {"age": ["60"], "scanner": ["a"]})
    three = cases[["logit_0", "logit_1", "logit_2"]].to_numpy()[[0, 0, 0]]
    assert (fusion.fuse(three, {"age": ["60"] * 3, "scanner": ["a"] * 3}) == alone).all()


def test_a_class_or_label_without_cases_gets_a_small_probability():
    cases, labels = cases_of(classes=3)
    rare = np.where(labels == 2, 0, labels)
    found = evaluated_by(fit_fusion(cases, rare, COLUMNS), cases, rare).calibrated
    assert np.isfinite(found).all() and found[:, 2].max() < 0.2
    several = np.stack([labels == 0, np.zeros(len(labels))], axis=1).astype(float)
    two = cases.drop(columns="logit_2")
    alone = evaluated_by(fit_fusion(two, several, COLUMNS), two, several).calibrated
    assert alone[:, 1].max() < 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"intercepts": [float("nan")]},
        {"intercepts": [1.0, 2.0]},
        {"column_weights": [[1.0]]},
        {"activation": "tanh"},
        {"features": ["age", "x", "y"]},
        {"columns": []},
    ],
)
def test_damaged_values_are_refused(change):
    cases, labels = cases_of()
    with pytest.raises((ValueError, KeyError, TypeError)):
        fusion_from(fit_fusion(cases, labels, COLUMNS).as_json() | change)


def test_flaws_name_the_columns():
    cases, labels = cases_of()
    fusion = fit_fusion(cases, labels, COLUMNS)
    assert fusion.flaws_of({"age": "60", "scanner": "a"}) == []
    flaws = fusion.flaws_of({"age": "old", "scanner": "z"})
    assert [flaw.split(":")[0] for flaw in flaws] == ["column 'age'", "column 'scanner'"]
    assert "fill it in" in fusion.flaws_of({"scanner": "a"})[0]
