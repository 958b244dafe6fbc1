import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from pipeline.metrics.baseline import (
    BASELINES,
    POOLED,
    WITHIN,
    baseline_table,
    baselines_of,
    pooled_and_within,
    prediction_from_columns,
)
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.discrimination import roc_auc


def cohort(n, seed=0):
    """Cases of two sites and sexes; the old are ill more often, whatever their site or sex."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 90, n).round()
    cases = pd.DataFrame({"site": rng.choice(["north", "south"], n), "column_sex": rng.choice(["F", "M"], n)})
    ill = rng.random(n) < 1 / (1 + np.exp(-(age - 55) / 12))
    return cases.assign(column_age=age.astype(int).astype(str)), ill.astype(np.int64)


def auc(prediction, labels):
    return float(roc_auc(prediction[:, 1], labels == 1, np.ones((1, len(labels))))[0])


def binary(prediction):
    return np.stack([1 - prediction, prediction], axis=1)


def table_of(model, baselines, labels, replicates=500, **settings):
    patients = np.array([f"p{row}" for row in range(len(labels))])
    weights = cluster_weights(patients, replicates, seed=0)
    return baseline_table(model, baselines, labels, patients, weights=weights, confidence=0.95, **settings)


def test_without_further_columns_the_site_is_the_only_baseline():
    assert baselines_of([]) == {"site": ["site"]}
    assert list(baselines_of(["age"])) == ["site", "age", "site, age"]


def test_the_site_alone_predicts_about_the_shares_of_its_training_cases():
    train = pd.DataFrame({"site": ["north"] * 200 + ["south"] * 200})
    labels = np.array(([1] * 160 + [0] * 40) + ([1] * 40 + [0] * 160))
    evaluated = pd.DataFrame({"site": ["north", "south", "unheard of"]})
    prediction = prediction_from_columns(train, labels, evaluated, 2)
    np.testing.assert_allclose(
        prediction[:, 1], [0.8, 0.2, 0.5], atol=0.02
    )  # the ridge draws a little towards the mean
    np.testing.assert_allclose(prediction.sum(axis=1), 1)


def test_a_label_that_depends_on_age_is_predicted_from_age_in_new_cases():
    (train, labels), (evaluated, truth) = cohort(600), cohort(600, seed=1)
    found = {name: auc(prediction_from_columns(train[some], labels, evaluated[some], 2), truth)
             for name, some in baselines_of(["age", "sex"]).items()}  # fmt: skip
    assert found["site"] == pytest.approx(0.5, abs=0.06)
    assert found["age, sex"] > 0.8 and found["site, age, sex"] == pytest.approx(found["age, sex"], abs=0.02)


def test_the_baseline_equals_scikit_learn_on_one_hot_and_scaled_columns():
    train, labels = cohort(300)
    age = train["column_age"].astype(float)
    scaled = (age - age.mean()) / age.std(ddof=0)
    design = np.column_stack([train["column_sex"] == "F", train["column_sex"] == "M", scaled])
    expected = LogisticRegression(C=1.0).fit(design, labels).predict_proba(design)
    found = prediction_from_columns(train[["column_sex", "column_age"]], labels, train[["column_sex", "column_age"]], 2)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_informative_missing_age_is_used_and_a_new_one_is_the_median():
    train, labels = cohort(400)
    missing = np.arange(400) % 4 == 0
    labels[missing] = 1
    gone = train.assign(column_age=train["column_age"].where(~missing, ""))
    prediction = prediction_from_columns(gone[["column_age"]], labels, gone[["column_age"]], 2)
    assert prediction[missing, 1].min() > 0.9
    ages = train.loc[~missing, ["column_age"]]
    asked = pd.DataFrame({"column_age": ["", ages["column_age"].astype(float).median(), np.nan, "unheard of"]})
    late = prediction_from_columns(ages, labels[~missing], asked, 2)
    np.testing.assert_allclose(late[[0, 2, 3]], late[[1, 1, 1]])


def test_a_baseline_prediction_does_not_depend_on_other_evaluated_cases():
    (train, labels), (evaluated, _) = cohort(200), cohort(50, seed=1)
    whole = prediction_from_columns(train, labels, evaluated, 2)
    alone = prediction_from_columns(train, labels, evaluated[:1].assign(column_age="61"), 2)
    same = prediction_from_columns(train, labels, evaluated.assign(column_age="61"), 2)
    np.testing.assert_allclose(alone[0], same[0])
    np.testing.assert_allclose(prediction_from_columns(train, labels, evaluated[7:8], 2)[0], whole[7])


def test_classes_sum_to_one_and_a_class_without_training_cases_gets_zero():
    train, labels = cohort(300)
    labels = labels + 2 * (train["site"] == "north").to_numpy()
    prediction = prediction_from_columns(train, labels, train, 5)
    np.testing.assert_allclose(prediction.sum(axis=1), 1)
    assert (prediction[:, 4] == 0).all() and (prediction.argmax(axis=1) == labels).mean() > 0.7
    np.testing.assert_array_equal(prediction_from_columns(train, np.ones(300, dtype=int), train, 3)[0], [0, 1, 0])


def test_multilabel_baselines_are_fitted_on_known_labels():
    train, ill = cohort(400)
    south = (train["site"] == "south").to_numpy(dtype=float)
    half = np.where(np.arange(400) % 2 == 0, ill, np.nan)
    labels = np.column_stack([half, south, np.full(400, np.nan)])
    prediction = prediction_from_columns(train, labels, train, 3)
    only = prediction_from_columns(train[::2], ill[::2], train, 2)
    np.testing.assert_allclose(prediction[:, 0], only[:, 1])
    assert prediction[south == 1, 1].min() > 0.8 and (prediction[:, 2] == 0.5).all()
    table = table_of(prediction, {"itself": prediction}, labels)
    assert (table["n"].item(), table["events"].item()) == (400, np.nansum(labels))
    assert table["difference"].item() == 0


def test_a_model_that_uses_the_site_alone_does_not_beat_the_site_baseline():
    rng = np.random.default_rng(0)
    (train, _), (evaluated, _) = cohort(400), cohort(400, seed=1)
    labels, truth = ((rng.random(400) < 0.85) == (cases["site"] == "south") for cases in (train, evaluated))
    labels, truth = labels.to_numpy(dtype=np.int64), truth.to_numpy(dtype=np.int64)
    site = prediction_from_columns(train[["site"]], labels, evaluated[["site"]], 2)
    model = binary(np.clip(0.1 + 0.6 * (evaluated["site"] == "south") + rng.normal(0, 0.05, 400), 0, 1))
    row = table_of(model, {"site": site}, truth).iloc[0]
    assert row["auc"] > 0.8 and row["model_auc"] > 0.8
    assert row["difference_upper"] < 0.05 and row["difference_lower"] < 0


def test_the_difference_excludes_zero_only_if_the_model_adds_to_age():
    (train, labels), (evaluated, truth) = cohort(500), cohort(500, seed=1)
    rng = np.random.default_rng(2)
    age = evaluated["column_age"].astype(float).to_numpy()
    baseline = {"age": prediction_from_columns(train[["column_age"]], labels, evaluated[["column_age"]], 2)}
    nothing = binary(1 / (1 + np.exp(-(age - 55 + rng.normal(0, 3, 500)) / 20)))
    more = binary(np.clip(nothing[:, 1] + 0.5 * (truth - 0.5) * rng.random(500), 0, 1))
    rows = [table_of(model, baseline, truth).iloc[0] for model in (nothing, more)]
    assert rows[0]["difference_lower"] <= 0 <= rows[0]["difference_upper"]
    assert rows[1]["difference_lower"] > 0


def test_four_of_five_studies_find_the_minimum_detectable_difference():
    _, truth = cohort(300)
    rng = np.random.default_rng(3)
    predictions = [binary(np.clip(0.25 + 0.5 * truth + rng.normal(0, 0.3, 300), 0, 1)) for _ in range(2)]
    row = table_of(predictions[0], {"other": predictions[1]}, truth).iloc[0]
    width = row["difference_upper"] - row["difference_lower"]
    assert row["standard_error"] == pytest.approx(width / (2 * 1.96), rel=0.1)
    assert row["minimum_detectable_difference"] == pytest.approx(2.8016 * row["standard_error"], rel=1e-3)
    assert list(row.index) == BASELINES


def test_an_uninformative_site_is_below_half_pooled_but_not_within_folds():
    """Labels tossed within one site: a fold with more events leaves fewer for its training (E5)."""
    pooled, within = [], []
    for seed in range(20):
        labels = np.random.default_rng(seed).integers(0, 2, 100)
        folds = np.repeat(list("01234"), 20)
        site, prediction = pd.DataFrame({"site": ["north"] * 100}), np.empty((100, 2))
        for fold in "01234":
            out = folds == fold
            prediction[out] = prediction_from_columns(site[~out], labels[~out], site[out], 2)
        table = table_of(prediction, {"site": prediction}, labels, 10, folds=folds).set_index("over")
        pooled.append(table.loc[POOLED, "auc"])
        within.append(table.loc[WITHIN, "auc"])
    assert np.mean(pooled) < 0.45
    np.testing.assert_allclose(within, 0.5)


def test_images_of_one_patient_are_drawn_together():
    _, truth = cohort(100)
    rng = np.random.default_rng(4)
    predictions = [
        np.repeat(binary(np.clip(0.3 + 0.4 * truth + rng.normal(0, 0.3, 100), 0, 1)), 3, 0) for _ in range(2)
    ]
    patients = np.repeat([f"p{row}" for row in range(100)], 3)
    known = (predictions[0], {"other": predictions[1]}, np.repeat(truth, 3), patients)
    clustered = baseline_table(*known, weights=cluster_weights(patients, 500, 0), confidence=0.95).iloc[0]
    alone = cluster_weights(np.arange(300).astype(str), 500, 0)
    naive = baseline_table(*known, weights=alone, confidence=0.95).iloc[0]
    assert clustered["standard_error"] == pytest.approx(np.sqrt(3) * naive["standard_error"], rel=0.15)
    assert (clustered["n"], clustered["patients"]) == (300, 100)


def test_a_fold_without_both_classes_is_left_out_of_the_mean_of_folds():
    labels = np.array([0, 1] * 20 + [1] * 10)
    folds = np.array(["0"] * 20 + ["1"] * 20 + ["2"] * 10)
    model = binary(np.random.default_rng(0).random(50))
    table = table_of(model, {"itself": model[::-1]}, labels, folds=folds).set_index("over")
    by_fold = [auc(model[folds == fold], labels[folds == fold]) for fold in "01"]
    assert table.loc[WITHIN, "model_auc"] == pytest.approx(np.mean(by_fold), abs=1e-6)
    assert table.loc[POOLED, "model_auc"] == pytest.approx(auc(model, labels), abs=1e-6)


def test_a_replicate_without_a_value_in_a_fold_is_the_mean_of_the_others():
    folds = np.array(["0", "0", "1", "2"])
    of_fold = {2: [1.0, np.nan], 1: [5.0, 8.0], 4: [3.0, 3.0]}
    found = pooled_and_within(folds, lambda mask: {"metric": np.array(of_fold[int(mask.sum())])})
    assert list(found) == [POOLED, WITHIN] and found[POOLED]["metric"].tolist() == [3.0, 3.0]
    np.testing.assert_allclose(found[WITHIN]["metric"], [(1 + 5 + 5) / 3, 8])
    assert list(pooled_and_within(folds[:2], lambda mask: {"metric": mask.astype(float)})) == [POOLED]


def test_the_paired_difference_is_tested_without_drawing_too_and_agrees():
    _, labels = cohort(400)
    rng = np.random.default_rng(3)
    model, baseline = (binary(expit(signal * labels + rng.normal(size=400))) for signal in (1.5, 1.1))
    [row] = table_of(model, {"age": baseline}, labels, replicates=2000).to_dict("records")
    z = row["difference"] / row["standard_error"]
    assert row["p_delong"] == pytest.approx(2 * norm.sf(abs(z)), abs=0.02) and 1e-4 < row["p_delong"] < 0.2
    [same] = table_of(model, {"age": model}, labels).to_dict("records")
    assert same["p_delong"] == 1 and same["difference"] == 0
