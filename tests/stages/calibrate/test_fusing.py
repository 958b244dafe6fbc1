"""The fused probability is the one that is evaluated; no fusion sees a case that it predicts."""

import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from pipeline.metrics.calibrators.calibrator import Temperature
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.evaluation import TaskSpec, evaluated_by, other_folds
from pipeline.metrics.fusion import fusion_from
from pipeline.stages.calibrate.fusing import fused_across
from pipeline.stages.calibrate.inputs import auc_alone
from pipeline.stages.calibrate.patients import of_patients
from tests.stages.by_hand import of_two_classes, write_predictions
from tests.stages.running import FOLDS, run

COLUMNS = [InputColumn("age", "numeric")]
CLINIC = "data/raw/clinic/cohort.csv"


def images(seed=0, n=90, labels=None):
    rng = np.random.default_rng(seed)
    age, shown = rng.normal(60, 10, n), rng.normal(size=n)
    truth = (0.1 * (age - 60) + shown + rng.logistic(size=n) > 0).astype(np.int64)
    cases = pd.DataFrame(
        {
            "case": [f"case-{number}" for number in range(n)],
            "patient": [f"patient-{number // 2}" for number in range(n)],
            "fold": (np.arange(n) // 2 % 3).astype(str),
            "site": "here",
            "column_age": age.round(2).astype(str),
            "logit_0": 0.0,
            "logit_1": shown,
        }
    )
    return evaluated_by(Temperature(1.0), cases, truth if labels is None else labels(truth))


def test_labels_of_a_fold_do_not_change_its_own_predictions():
    plain = images()
    fold = plain.folds == "1"
    turned = images(labels=lambda truth: np.where(fold, 1 - truth, truth))
    before, after = fused_across(plain, COLUMNS), fused_across(turned, COLUMNS)
    for name in ("calibrated", "uncalibrated"):
        same = (getattr(before, name) == getattr(after, name)).all(axis=1)
        assert same[fold].all() and not same[~fold].any()
    for name, part in before.parts.items():
        assert (part[fold] == after.parts[name][fold]).all(), name


def test_the_cases_elsewhere_are_predicted_by_the_fusion_of_the_fold():
    fused = fused_across(images(), COLUMNS)
    turned = fused_across(images(labels=lambda truth: np.where(fused.folds == "1", 1 - truth, truth)), COLUMNS)
    assert (other_folds(fused)["1"].calibrated == other_folds(turned)["1"].calibrated).all()


def test_cases_keep_their_order_and_their_predictions():
    plain = images()
    fused = fused_across(plain, COLUMNS)
    assert fused.cases["case"].tolist() == plain.cases["case"].tolist()
    assert (fused.parts["image"] == plain.calibrated).all()
    assert fused.calibrated.sum(axis=1) == pytest.approx(1)


def test_without_columns_nothing_changes():
    plain = images()
    assert fused_across(plain, []) is plain


def test_patients_have_parts_as_well():
    fused = fused_across(images(), COLUMNS)
    one = images().labels
    joined = of_patients(
        fused_across(images(labels=lambda truth: np.repeat(truth[::2], 2)), COLUMNS),
        "mean",
        TaskSpec(["well", "ill"]),
    )
    assert {name: part.shape for name, part in joined.parts.items()} == {"columns": (45, 2), "image": (45, 2)}
    assert len(one) == len(fused.labels)


def test_a_column_that_tells_the_label_has_an_auc_of_its_own_near_one():
    plain = images()
    code = np.where(plain.labels == 1, "malignant", "benign")
    marked = evaluated_by(Temperature(1.0), plain.cases.assign(column_code=code), plain.labels)
    assert auc_alone(marked, InputColumn("code", "categorical", ("benign", "malignant"))) == 1
    assert 0.5 < auc_alone(plain, COLUMNS[0]) < 0.9


def test_calibrate_writes_the_fusion_and_evaluates_the_fused(project):
    root = project(adapt__method="none", split__folds=list(FOLDS), cohort__inputs=["age"], calibrate__baseline=[])
    table = pd.read_csv(root / CLINIC)
    number = table["patient_id"].str.extract(r"(\d+)")[0].astype(int)
    table.assign(age=40 + 5 * (number % 4) + 9 * (table["label"] == "ill")).to_csv(root / CLINIC, index=False)
    run("cohort", "preprocess", "split")
    for fold in FOLDS:
        write_predictions(fold, of_two_classes, 2)
    run("calibrate")
    record = paths.read_json(paths.CALIBRATOR)
    assert record["method"] == "temperature" and {one["method"] for one in record["cross_fitted"].values()} == {
        "fusion"
    }
    fusion, predictions = fusion_from(record["fusion"]), paths.read_table(paths.PREDICTIONS)
    external = predictions[predictions["scope"] == "external"]
    fused = fusion.fuse(external[["image_0", "image_1"]].to_numpy(float), {"age": external["column_age"].astype(str)})
    assert fusion.apply(fused)[:, 1] == pytest.approx(external["probability_1"].to_numpy())
    increment = pd.read_csv(paths.assessed("increment"))
    both = increment[(increment["prediction"] == "image and columns") & increment["over"].isna()]
    for scope, row in both.set_index("scope").iterrows():
        metrics = paths.read_json(paths.pooled_metrics(f"{scope}_calibrated"))
        assert row["log_loss"] == pytest.approx(metrics["log_loss"]["value"])
    inputs = pd.read_csv(paths.assessed("inputs"))
    assert set(inputs["by"]) == {"all", "class", "site", "test"} and inputs["missing"].sum() == 0
    assert 0.5 < inputs["auc"].max() <= 1
    baselines = pd.read_csv(paths.assessed("baselines"))
    assert set(baselines["baseline"]) == {"site", "age", "site, age"}
