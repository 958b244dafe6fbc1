"""Mistakes that published evaluations make: each is impossible here by construction, or refused with a message."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from pipeline.metrics.bootstrap import Bootstrap, cluster_weights
from pipeline.metrics.calibration import calibration_slope
from pipeline.metrics.calibrators.fitting import Unsuitable, fit
from pipeline.metrics.calibrators.selection import cross_fitted
from pipeline.metrics.conformal import conformal_thresholds
from pipeline.metrics.evaluation import TaskSpec, evaluated_across, evaluated_by, mean_of_tables, other_folds
from pipeline.metrics.guards import LeakageError, MissingCases, refuse_leakage, refuse_missing_cases
from pipeline.metrics.summary import BadProbabilities, summarise
from pipeline.stages.calibrate.assessment import Settings, assess
from pipeline.stages.calibrate.released import to_release

SPEC = TaskSpec(["well", "ill"])
SETTINGS = Settings(10, (0.05, 0.5), 0.9, 0.9, 0.9, (), 200, 0.95, ())


def cohort(patients=120, images=1, folds=4, seed=0, signal=1.5):
    """Cases with logits of folds, as finetune leaves them; the label is the patient's, and so is what is seen of it."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), images)
    labels = rng.integers(0, 2, patients)[patient]
    evidence = np.repeat(signal * (2 * labels[::images] - 1) + rng.normal(0, 1.5, patients), images)
    cases = pd.DataFrame(
        {
            "case": [f"c{number}" for number in range(len(patient))],
            "patient": [f"p{number}" for number in patient],
            "fold": (patient % folds).astype(str),
            "site": np.where(patient % 2, "north", "south"),
            "group_site": np.where(patient % 2, "north", "south"),
            "logit_0": -evidence,
            "logit_1": evidence,
        }
    )
    return cases, labels


def tables(cases, labels):
    pooled = evaluated_across(cases, labels, "temperature")
    return assess(pooled, other_folds(pooled), SPEC, SETTINGS, seed=0)


def test_a_fold_is_not_evaluated_by_a_calibrator_that_saw_it():
    cases, labels = cohort()
    folds, patients = cases["fold"].to_numpy(dtype=str), cases["patient"].to_numpy(dtype=str)
    logits, inside = cases[["logit_0", "logit_1"]].to_numpy(), cases["fold"].to_numpy() == "2"
    honest, _ = cross_fitted("platt", logits, labels, folds=folds, patients=patients)
    turned, _ = cross_fitted("platt", logits, np.where(inside, 1 - labels, labels), folds=folds, patients=patients)
    np.testing.assert_array_equal(honest[inside], turned[inside])
    with pytest.raises(LeakageError, match="fitted on its patient"):
        refuse_leakage(cases, {fold: set(patients) for fold in "0123"})


def test_more_images_of_a_patient_do_not_narrow_an_interval():
    width = {}
    for images in (1, 5):
        cases, labels = cohort(images=images)
        logits = cases["logit_1"].to_numpy()
        prediction = expit(np.stack([-2 * logits, 2 * logits], axis=1))
        found = summarise(
            prediction, labels, cases["patient"].to_numpy(dtype=str), bins=10, bootstrap=Bootstrap(1000, 0.95, 0)
        )["auc"]
        width[images] = found["upper"] - found["lower"]
    assert width[5] == pytest.approx(width[1])


def test_members_are_averaged_before_calibration():
    rng, n = np.random.default_rng(0), 20_000
    truth = rng.normal(0, 1.5, n)
    labels = (rng.random(n) < expit(truth)).astype(int)
    members = [truth + rng.normal(0, 1.5, n) for _ in range(5)]
    known = {"case": np.arange(n).astype(str), "patient": np.arange(n).astype(str), "fold": "0", "model_sha256": "x"}
    scored = [pd.DataFrame(known | {"logit_0": 0.0, "logit_1": logit}) for logit in members]
    released = to_release("platt", list("01234"), mean_of_tables(scored), labels[np.argsort(known["case"])])
    ordered, weights = labels[np.argsort(known["case"])] == 1, np.ones((1, n))
    assert calibration_slope(released.development.calibrated[:, 1], ordered, weights)[0] == pytest.approx(1, abs=0.02)
    alone = [fit("platt", one[["logit_0", "logit_1"]].to_numpy(), labels) for one in scored]
    each = [one.apply(table[["logit_0", "logit_1"]].to_numpy())[:, 1] for one, table in zip(alone, scored, strict=True)]
    assert calibration_slope(np.mean(each, axis=0), labels == 1, weights)[0] > 1.2


def test_an_isotonic_map_of_eighty_cases_is_refused():
    cases, labels = cohort(80)
    with pytest.raises(Unsuitable, match="1000"):
        fit("isotonic", cases[["logit_0", "logit_1"]].to_numpy(), labels)


def test_calibration_error_comes_with_that_of_perfect_predictions():
    cases, labels = cohort()
    found = tables(cases, labels)["calibration"]
    for name in ("ece_width", "ece_mass", "squared_error_debiased", "mcb", "ici"):
        assert found[[name, f"{name}_null", f"{name}_null_upper"]].notna().all(axis=None)
    assert (found["ece_width_null"] > 0).all()


def test_a_threshold_is_not_chosen_on_the_cases_that_it_is_evaluated_on():
    cases, labels = cohort()
    inside = cases["fold"].to_numpy() == "2"
    pooled = evaluated_across(cases, labels, "temperature")
    other = evaluated_across(cases, np.where(inside, 1 - labels, labels), "temperature")
    one, two = (
        assess(some.part(inside), {"2": other_folds(some)["2"]}, SPEC, SETTINGS, seed=0)["operating_points"]
        for some in (pooled, other)
    )
    assert one["threshold"].tolist() == two["threshold"].tolist()
    assert one["sensitivity"].tolist() != two["sensitivity"].tolist()


@pytest.mark.parametrize("corrupted", [np.nan, np.inf])
def test_a_probability_that_is_none_is_an_error_and_is_not_left_out(corrupted):
    prediction = np.array([[0.5, 0.5], [0.2, 0.8], [0.5, corrupted]])
    with pytest.raises(BadProbabilities, match="1 cases"):
        summarise(
            prediction, np.array([0, 1, 1]), np.array(["a", "b", "c"]), bins=10, bootstrap=Bootstrap(100, 0.95, 0)
        )


def test_logits_and_scores_that_do_not_sum_to_one_are_no_probabilities():
    with pytest.raises(BadProbabilities, match="sum to one"):
        summarise(
            np.array([[0.4, 0.8], [0.9, 0.3]]),
            np.array([0, 1]),
            np.array(["a", "b"]),
            bins=10,
            bootstrap=Bootstrap(100, 0.95, 0),
        )


def test_a_case_that_was_lost_or_counted_twice_is_found():
    with pytest.raises(MissingCases, match="missing"):
        refuse_missing_cases(["a", "b"], ["a"])
    with pytest.raises(MissingCases, match="twice"):
        refuse_missing_cases(["a", "b"], ["a", "b", "b"])


def test_a_patient_in_two_folds_is_refused():
    cases, labels = cohort(images=2)
    cases["fold"] = (np.arange(len(cases)) % 4).astype(str)
    with pytest.raises(ValueError, match="each patient in one fold"):
        evaluated_across(cases, labels, "temperature")


def test_a_promise_of_coverage_that_too_few_patients_back_is_not_made():
    prediction = np.tile([0.3, 0.7], (8, 1))
    found = conformal_thresholds(prediction, np.ones(8, dtype=int), np.arange(8).astype(str), 0.1)
    assert found.groups["all"].value is None and found.groups["all"].n == 8


def test_a_subgroup_of_a_few_patients_has_no_metric():
    cases, labels = cohort(40)
    cases["group_site"] = np.where(np.arange(40) < 4, "tiny", "large")
    found = tables(cases, labels)["subgroups"].set_index("value")
    assert found.loc["tiny", "too_few"] and np.isnan(found.loc["tiny", "auc"])
    assert not found.loc["large", "too_few"] and found.loc["large", "auc"] > 0.5


def test_in_sample_calibration_is_told_from_cross_fitted_calibration():
    """On one cohort by another the cross-fitted log-loss is above the one in sample, and near that of new cases."""
    in_sample, crossed, new = [], [], []
    for seed in range(40):
        cases, labels = cohort(60, seed=seed)
        others, truth = cohort(2000, seed=seed + 1000)
        logits, unseen = (one[["logit_0", "logit_1"]].to_numpy() for one in (cases, others))
        whole = fit("platt", logits, labels)
        folds, patients = (cases[column].to_numpy(dtype=str) for column in ("fold", "patient"))
        predictions = (
            whole.apply(logits),
            cross_fitted("platt", logits, labels, folds=folds, patients=patients)[0],
            whole.apply(unseen),
        )
        for kept, prediction, happened in zip(
            (in_sample, crossed, new), predictions, (labels, labels, truth), strict=True
        ):
            kept.append(-np.log(prediction[np.arange(len(happened)), happened]).mean())
    assert np.mean(in_sample) < np.mean(new) - 0.005
    assert np.mean(crossed) == pytest.approx(np.mean(new), abs=2.5 * np.std(crossed) / np.sqrt(40))


def test_every_row_names_the_model_and_the_map_that_evaluated_it():
    cases, labels = cohort()
    calibrator = fit("temperature", cases[["logit_0", "logit_1"]].to_numpy(), labels)
    assert set(evaluated_by(calibrator, cases, labels).cases["calibrator"]).isdisjoint({"", None})
    pooled = evaluated_across(cases, labels, "temperature")
    assert pooled.cases.groupby("fold")["calibrator"].nunique().eq(1).all()
    assert cluster_weights(pooled.patients, 10, 0).shape == (11, 120)


def test_prediction_is_corrected_from_the_prevalence_of_its_calibration():
    cases, labels = cohort(400)
    pooled = evaluated_across(cases, labels, "temperature")
    here = (pooled.folds == "2") & ((labels == 0) | (np.arange(400) % 12 == 2))  # few of the ill are left
    elsewhere = other_folds(pooled)["2"]
    settings = replace(SETTINGS, prevalences=(float((elsewhere.labels == 1).mean()),))
    found = assess(pooled.part(here), {"2": elsewhere}, SPEC, settings, seed=0)["prevalence"].set_index("corrected")
    assert pooled.labels[here].mean() < 0.35
    assert found.loc[True, "log_loss"] == pytest.approx(found.loc[False, "log_loss"], abs=1e-6)
