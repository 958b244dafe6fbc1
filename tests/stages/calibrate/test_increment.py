"""What the images add to columns: simulated cohorts of which the truth is known."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.calibrators.calibrator import Temperature
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.evaluation import TaskSpec, evaluated_by, other_folds
from pipeline.stages.calibrate.fusing import fused_across
from pipeline.stages.calibrate.increment import increment_table, predictions, r_squared
from pipeline.stages.calibrate.subject import Settings, Subject

SETTINGS = Settings(
    **{one.name: None for one in fields(Settings)}
    | {"thresholds": (0.1, 0.5), "baseline": ("age", "stage"), "confidence": 0.95, "n_bootstrap": 200}
)
FOLDS = np.arange(200) % 5
BOTH = ("image and columns", "columns")


def subject_of(seed, *, of_columns, of_image, test=False):
    """Simulate patients whose label depends on age and stage, on what the image shows, on both or on neither."""
    rng = np.random.default_rng(seed)
    age, stage, shown = rng.normal(size=200), rng.integers(0, 3, 200), rng.normal(size=200)
    truth = expit(of_columns * (age + stage - 1) + of_image * shown)
    labels = (rng.uniform(size=200) < truth).astype(np.int64)
    cases = pd.DataFrame(
        {
            "case": [f"case-{number}" for number in range(200)],
            "patient": [f"patient-{number}" for number in range(200)],
            "fold": ["final"] * 200 if test else FOLDS.astype(str),
            "column_age": (60 + 10 * age).astype(str),
            "column_stage": np.array(["I", "II", "III"])[stage],
            "logit_0": 0.0,
            "logit_1": 1.5 * shown,
        }
    )
    pooled = evaluated_by(Temperature(1.0), cases, labels)
    elsewhere = {str(fold): pooled.part(fold != FOLDS) for fold in range(5)}
    weights = cluster_weights(pooled.patients, SETTINGS.n_bootstrap, seed)
    return Subject(pooled, elsewhere, TaskSpec(["well", "ill"], "multiclass"), weights=weights, seed=0)


def table_of(subject):
    return increment_table(subject, SETTINGS).set_index(["prediction", "over"])


@pytest.mark.parametrize(
    ("of_columns", "of_image", "right"),
    [(1.2, 0.0, "not shown"), (0.0, 1.5, "adds"), (1.0, 1.5, "adds"), (0.0, 0.0, "not shown")],
    ids=["columns", "image", "both", "neither"],
)
def test_the_sentence_is_right_for_each_truth(of_columns, of_image, right):
    found = [table_of(subject_of(seed, of_columns=of_columns, of_image=of_image)) for seed in range(12)]
    verdicts = [one.loc[BOTH, "verdict"] for one in found]
    wrong = {"adds": ("not shown", "takes away"), "not shown": ("adds",)}[right]
    assert sum(verdict in wrong for verdict in verdicts) <= 1, verdicts


def test_metrics_agree_with_scikit_learn_and_gains_are_their_differences():
    subject = subject_of(0, of_columns=1.0, of_image=1.0)
    known, found = predictions(subject, ["column_age", "column_stage"]), table_of(subject)
    truth = subject.evaluated.labels
    for name, prediction in known.items():
        row = found.loc[(name, "")]
        assert row["log_loss"] == pytest.approx(log_loss(truth, prediction), abs=1e-6)
        assert row["auc"] == pytest.approx(roc_auc_score(truth, prediction[:, 1]), abs=1e-6)
    own, gain = found.xs("", level="over"), found.loc[BOTH]
    assert gain["log_loss"] == pytest.approx(
        own["log_loss"]["columns"] - own["log_loss"]["image and columns"], abs=2e-6
    )
    for name in ("auc", "r2", "net_benefit"):
        assert gain[name] == pytest.approx(own[name]["image and columns"] - own[name]["columns"], abs=2e-6)
    assert (own["patients"] == 200).all() and (own["events"] == truth.sum()).all()


def test_r_squared_is_zero_for_the_prevalence_and_one_for_the_truth():
    labels = np.array([0, 0, 0, 1])
    prevalence, sure = np.tile([0.75, 0.25], (4, 1)), np.eye(2)[labels]
    assert r_squared(prevalence, labels, np.ones((1, 4))) == pytest.approx(0)
    assert r_squared(sure, labels, np.ones((1, 4))) == pytest.approx(1)
    doubled = r_squared(prevalence, labels, np.array([[1.0, 1, 1, 3]]))
    half = -(np.log(0.75) + np.log(0.25)) / 2
    assert doubled == pytest.approx(1 - half / np.log(2))


def test_nothing_is_fitted_on_a_case_that_it_predicts():
    subject = subject_of(1, of_columns=1.0, of_image=1.0)
    before = predictions(subject, ["column_age"])
    flipped = subject.evaluated.labels.copy()
    flipped[FOLDS == 2] = 1 - flipped[FOLDS == 2]
    pooled = replace(subject.evaluated, labels=flipped)
    changed = replace(subject, evaluated=pooled, elsewhere={str(k): pooled.part(k != FOLDS) for k in range(5)})
    after = predictions(changed, ["column_age"])
    for name in ("columns", "image and columns"):
        np.testing.assert_array_equal(before[name][FOLDS == 2], after[name][FOLDS == 2])
        assert not np.allclose(before[name][FOLDS == 1], after[name][FOLDS == 1])


def test_without_the_columns_there_is_no_table():
    subject = subject_of(0, of_columns=0.0, of_image=1.0)
    assert increment_table(subject, replace(SETTINGS, baseline=("weight",))).empty


@pytest.mark.parametrize(("of_columns", "of_image", "right"), [(1.2, 0.0, "not shown"), (1.0, 1.5, "adds")])
def test_the_sentence_is_right_for_a_model_that_takes_the_columns(of_columns, of_image, right):
    inputs = [InputColumn("age", "numeric"), InputColumn("stage", "ordered", ("I", "II", "III"))]
    for seed in range(4):
        plain = subject_of(seed, of_columns=of_columns, of_image=of_image)
        fused = fused_across(plain.evaluated, inputs)
        table = table_of(replace(plain, evaluated=fused, elsewhere=other_folds(fused)))
        assert table.loc[BOTH, "verdict"] == right
        losses = {name: table.loc[(name, ""), "log_loss"] for name in ("columns", "image and columns")}
        assert table.loc[BOTH, "log_loss"] == pytest.approx(losses["columns"] - losses["image and columns"], abs=2e-6)
        assert losses["image and columns"] == pytest.approx(log_loss(fused.labels, fused.calibrated[:, 1]), abs=2e-6)


def test_the_interval_of_a_gain_includes_the_variance_of_fitting():
    subject = subject_of(0, of_columns=0.0, of_image=0.0)
    fused = fused_across(subject.evaluated, [InputColumn("age", "numeric")])
    own = table_of(replace(subject, evaluated=fused, elsewhere=other_folds(fused))).loc[BOTH]
    half = (own["log_loss_upper"] - own["log_loss_lower"]) / 2
    assert half >= 1.959 / 200  # one coefficient, 200 patients
