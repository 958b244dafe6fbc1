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
from tests.stages.by_hand import (
    LABELS,
    labels_of_patients,
    of_two_classes,
    relabel,
    right_more_often_than_not,
    write_predictions,
)
from tests.stages.conftest import write_status
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


def with_age(root):
    table = pd.read_csv(root / CLINIC)
    number = table["patient_id"].str.extract(r"(\d+)")[0].astype(int)
    age = (40 + 5 * (number % 4) + 9 * (table["label"] == "ill")).astype(str).where(number % 6 > 0, "")
    table.assign(age=age).to_csv(root / CLINIC, index=False)


@pytest.mark.parametrize(
    ("task", "classes", "label_of", "logits_of"),
    [
        ("multilabel", LABELS, labels_of_patients, right_more_often_than_not),
        (
            "ordinal",
            ["well", "mild", "ill"],
            lambda table: {name: ["well", "mild", "ill"][number % 3] for number, name in enumerate(table["patient"])},
            lambda cases, draws: draws.normal(size=(len(cases), 3)),
        ),
    ],
    ids=["multilabel", "ordinal"],
)
def test_labels_and_grades_are_fused_and_reported(project, task, classes, label_of, logits_of):
    with_age(project(adapt__method="none", cohort__inputs=["age"], calibrate__per_patient="none"))
    run("cohort", "preprocess", "split")
    relabel(task, classes, label_of)
    for fold in FOLDS:
        write_predictions(fold, logits_of, 3)
    run("calibrate")
    predictions = paths.read_table(paths.PREDICTIONS)
    probabilities = predictions.filter(regex=r"^probability_\d").to_numpy()
    assert np.isfinite(probabilities).all()
    assert task == "multilabel" or probabilities.sum(axis=1) == pytest.approx(1)
    inputs = pd.read_csv(paths.assessed("inputs"))
    assert inputs.loc[inputs["by"] == "class", "value"].tolist() == classes
    write_status()
    run("report")
    assert "The columns that the model takes" in paths.REPORT.read_text()


def test_repetitions_left_out_sites_and_patients_are_fused_as_well(project):
    folds = ["0", "1", "2", "final", "r2-0", "r2-1", "r2-2", "without-inside"]
    root = project(
        adapt__method="none", split__folds=folds, cohort__inputs=["age"], calibrate__per_patient="mean",
        calibrate__method="auto",
    )  # fmt: skip
    with_age(root)
    run("cohort", "preprocess", "split")
    for fold in folds:
        write_predictions(fold, of_two_classes, 2)
    run("calibrate")
    assert paths.read_json(paths.STAMPS)["scopes"][0] == "internal_patients"
    increment = pd.read_csv(paths.assessed("increment"))
    both = increment[(increment["prediction"] == "image and columns") & increment["over"].isna()].set_index("scope")
    metrics = paths.read_json(paths.pooled_metrics("internal_patients_calibrated"))
    assert both.loc["internal_patients", "log_loss"] == pytest.approx(metrics["log_loss"]["value"])
    left_out = pd.read_csv(paths.LEFT_OUT)
    assert left_out["state"].tolist() == ["calibrated"]
    project(cohort__inputs=[])
    run("cohort", "calibrate")
    assert pd.read_csv(paths.LEFT_OUT)["log_loss"].tolist() != left_out["log_loss"].tolist()
    assert not paths.assessed("inputs").exists()


def test_an_ensemble_is_fused_on_the_calibration_cases(project):
    root = project(adapt__method="none", split__folds=list(FOLDS), cohort__inputs=["age"], calibrate__form="ensemble")
    with_age(root)
    table = pd.read_csv(root / CLINIC, keep_default_na=False)
    number = table["patient_id"].str.extract(r"(\d+)")[0].astype(int)
    table.loc[(number < 8) & (table["split"] != "test"), "split"] = "calibration"
    table.to_csv(root / CLINIC, index=False)
    run("cohort", "preprocess", "split")
    for fold in FOLDS:
        write_predictions(fold, of_two_classes, 2)
    run("calibrate")
    record = paths.read_json(paths.CALIBRATOR)
    assert record["form"] == "ensemble" and record["fusion"]["columns"][0]["cases"] == record["fitted_on"]["cases"]
