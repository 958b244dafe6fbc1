"""What calibrate writes beside the metrics, from predictions that are written by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from pipeline import paths
from pipeline.metrics.calibrators.calibrator import calibrator_from, digest_of
from pipeline.metrics.calibrators.fitting import fit
from pipeline.stages.calibrate.assessment import TABLES
from tests.stages.by_hand import of_two_classes, write_predictions
from tests.stages.running import FOLDS, refusal, run

CLINIC = "data/raw/clinic/cohort.csv"


@pytest.fixture
def cohort(project):
    """Two classes that were predicted, with sex and age in the table; returns the function that writes parameters."""

    def write(folds=FOLDS, calibration=0, **changes):
        root = project(adapt__method="none", split__folds=list(folds), **changes)
        table = pd.read_csv(root / CLINIC)
        number = table["patient_id"].str.extract(r"(\d+)")[0].astype(int)
        table = table.assign(
            sex=np.where(number % 2, "f", "m"), age=40 + 5 * (number % 4) + 20 * (table["label"] == "ill")
        )
        developed = sorted(set(number[table["split"] != "test"]))
        table.loc[number.isin(developed[:calibration]), "split"] = "calibration"
        table.to_csv(root / CLINIC, index=False)
        run("cohort", "preprocess", "split")
        for fold in folds:
            write_predictions(fold, of_two_classes, 2)

    return write


def table(name, **where):
    found = pd.read_csv(paths.assessed(name), dtype={"of": str, "group": str, "value": str})
    for column, value in where.items():
        found = found[found[column] == value]
    return found


def test_every_table_is_written_with_internal_and_external_kept_apart(cohort):
    cohort(calibrate__subgroups=["sex", "age"], calibrate__baseline=["age", "sex"], calibrate__prevalences=[0.1])
    run("calibrate")
    # These few patients may have no curve, and one model has no folds.
    curves_of_many = ("recalibration", "calibration_curve", "roc_of_folds")
    for name in TABLES:
        scopes = set(table(name)["scope"])
        assert scopes == {"internal", "external"} or (name in curves_of_many and not scopes - {"internal"}), name
    [row] = table("calibration", scope="internal", state="calibrated").to_dict("records")
    metrics = paths.read_json(paths.pooled_metrics("internal_calibrated"))
    for name in ("calibration_slope", "brier", "log_loss", "auc"):
        assert row[name] == pytest.approx(metrics[name]["value"], abs=1e-5)
    assert row["mcb"] - row["dsc"] + row["unc"] == pytest.approx(row["brier"])
    assert row["enough_for"] == "neither" and row["patients_for_development"] > 0
    [elsewhere] = table("calibration", scope="external", state="calibrated").to_dict("records")
    assert np.isnan(elsewhere["patients_for_development"])  # one model is no cross-validation


def test_a_column_that_predicts_the_label_is_a_baseline_only_if_declared(cohort):
    cohort(calibrate__baseline=["age"])
    run("calibrate")
    rows = table("baselines", scope="internal", over="all cases together").set_index("baseline")
    assert rows.index.tolist() == ["site", "age", "site, age"]
    assert rows.loc["age", "auc"] > 0.7 > rows.loc["site", "auc"]
    assert (rows["difference"] - (rows["model_auc"] - rows["auc"])).abs().max() < 1e-5
    assert set(table("subgroups", scope="internal")["column"]) == {"site", "age"}


def test_a_subgroup_that_is_too_small_says_so_and_shows_no_number(cohort):
    cohort(calibrate__subgroups=["sex"])
    run("calibrate")
    rows = table("subgroups", scope="internal", column="sex")
    assert rows["value"].tolist() == ["f", "m"] and rows["too_few"].all() and rows["auc"].isna().all()
    assert rows["n"].sum() == paths.read_json(paths.pooled_metrics("internal_calibrated"))["n"]


def test_naming_a_column_changes_nothing_that_is_trained_on(cohort):
    cohort()
    before = paths.CASES.read_bytes()
    cohort(calibrate__subgroups=["sex"])
    assert paths.CASES.read_bytes() == before and "column_sex" in paths.COLUMNS.read_text()


def test_auto_evaluates_patients_first_where_some_have_several_images(cohort):
    cohort(calibrate__per_patient="auto")
    run("calibrate")
    scopes = list(dict.fromkeys(table("calibration")["scope"]))
    assert scopes == ["internal_patients", "internal", "external_patients", "external"]
    assert paths.read_json(paths.STAMPS)["per_patient"] == "mean"


def test_auto_evaluates_only_images_if_a_test_patients_labels_contradict(cohort):
    cohort(calibrate__per_patient="auto")
    scored = pd.read_csv(paths.predictions("final"), keep_default_na=False)
    twice = scored[(scored["role"] == "test") & scored["patient"].duplicated()].index[0]
    scored.loc[twice, "label"] = "well" if scored.loc[twice, "label"] == "ill" else "ill"
    paths.write_table(scored, paths.predictions("final"))
    run("calibrate")
    assert paths.read_json(paths.STAMPS)["per_patient"] == "none"


@pytest.mark.parametrize("method", ["auto", "platt", "beta"])
def test_calibrators_are_fitted_on_held_out_cases_of_other_folds(cohort, method):
    cohort(calibrate__method=method)
    run("calibrate")
    record = paths.read_json(paths.CALIBRATOR)
    released = calibrator_from(record)
    assert record["sha256"] == digest_of(released) and record["members"] == ["final"]
    assert [row["kept"] for row in record["choice"]].count(True) == (method == "auto")
    cases = pd.read_csv(paths.PREDICTIONS, keep_default_na=False)
    internal, external = (cases[cases["scope"] == scope] for scope in ("internal", "external"))
    assert set(external["model_sha256"]) == set(record["model_sha256"].values())
    logits = external[["logit_0", "logit_1"]].to_numpy()
    np.testing.assert_allclose(released.apply(logits), external.filter(like="probability_").to_numpy())
    for fold, values in record["cross_fitted"].items():
        rows = internal[internal["fold"].astype(str) == fold]
        assert set(rows["calibrator"]) == {values["sha256"]}
        found = calibrator_from(values).apply(rows[["logit_0", "logit_1"]].to_numpy())
        np.testing.assert_allclose(found, rows.filter(like="probability_").to_numpy())
        others = internal[internal["fold"].astype(str) != fold]
        method = "none" if values.get("temperature") == 1 else values["method"]
        again = fit(method, others[["logit_0", "logit_1"]].to_numpy(), (others["label"] == "ill").to_numpy() * 1)
        assert digest_of(again) == values["sha256"]


def test_an_unsuitable_method_is_an_error_with_parameter_and_cure(cohort, capsys):
    cohort(calibrate__method="isotonic")
    message = refusal(capsys, "calibrate")
    assert "calibrate.method is isotonic" in message and "1000" in message


def test_an_ensemble_is_calibrated_on_cases_that_no_member_saw(cohort):
    cohort(folds=FOLDS[:3], calibration=6, calibrate__form="ensemble")
    run("calibrate")
    record = paths.read_json(paths.CALIBRATOR)
    assert record["form"] == "ensemble" and record["members"] == ["0", "1", "2"]
    members = [pd.read_csv(paths.predictions(fold), keep_default_na=False).set_index("case") for fold in "012"]
    held = members[0].query("role == 'calibration'")
    assert record["fitted_on"] == {"cases": len(held), "patients": held["patient"].nunique(), "folds": ["ensemble"]}
    logits = np.mean([one.loc[held.index, ["logit_0", "logit_1"]] for one in members], axis=0).astype(np.float32)
    again = fit("temperature", logits.astype(np.float64), (held["label"] == "ill").to_numpy() * 1)
    assert record["temperature"] == pytest.approx(again.value, rel=1e-6)  # the order of cases shows in the last digits
    cases = pd.read_csv(paths.PREDICTIONS, keep_default_na=False).query("scope == 'external'").set_index("case")
    pooled = np.mean([one.loc[cases.index, "logit_1"] - one.loc[cases.index, "logit_0"] for one in members], axis=0)
    np.testing.assert_allclose(cases["probability_1"], expit(pooled / record["temperature"]), atol=1e-6)


def test_an_ensemble_without_cases_set_aside_is_refused_with_the_cure(cohort, capsys):
    cohort(folds=FOLDS[:3], calibrate__form="ensemble")
    message = refusal(capsys, "calibrate")
    assert "calibrate.form is ensemble" in message and "'calibration'" in message and "refit" in message


def test_a_case_that_was_not_scored_is_refused_and_never_dropped(cohort, capsys):
    cohort()
    scored = pd.read_csv(paths.predictions("1"), keep_default_na=False)
    paths.write_table(scored.drop(scored.index[scored["role"] == "held_out"][0]), paths.predictions("1"))
    message = refusal(capsys, "calibrate")
    assert "1 cases are missing" in message and "finetune --fold 1" in message


def test_a_patient_on_both_sides_of_the_calibrator_is_refused(cohort, capsys):
    cohort()
    held_out = pd.read_csv(paths.predictions("1"), keep_default_na=False).query("role == 'held_out'")
    scored = pd.read_csv(paths.predictions("final"), keep_default_na=False)
    paths.write_table(scored.assign(patient=held_out["patient"].iloc[0]), paths.predictions("final"))
    assert "fitted on its patient" in refusal(capsys, "calibrate")


def test_a_probability_that_is_none_is_an_error(cohort, capsys):
    cohort()
    scored = pd.read_csv(paths.predictions("1"), keep_default_na=False)
    paths.write_table(scored.assign(logit_1=np.inf), paths.predictions("1"))
    assert "not finite" in refusal(capsys, "calibrate")
