"""Several labels, grades, repetitions and several images per patient, from predictions that are written by hand."""

import html
import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn import metrics as oracle

from pipeline import paths
from pipeline.imaging.labels import targets_of
from pipeline.metrics.calibrators.fitting import fit_temperature
from tests.stages.by_hand import (
    LABELS,
    labels_of_patients,
    predict_two_classes,
    record,
    relabel,
    right_more_often_than_not,
    searched,
    write_predictions,
)
from tests.stages.conftest import write_status
from tests.stages.running import FOLDS, refusal, run


@pytest.fixture
def multilabel(project):
    """A project of three labels that was predicted; returns the function that writes its parameters."""
    project(adapt__method="none")
    run("cohort", "preprocess", "split")
    relabel("multilabel", LABELS, labels_of_patients)
    for fold in FOLDS:
        write_predictions(fold, right_more_often_than_not, 3)
    return project


def page():
    """Read the report as a browser shows it."""
    write_status()
    run("report")
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", paths.REPORT.read_text())).split())


def held_out():
    parts = [pd.read_csv(paths.predictions(fold), keep_default_na=False) for fold in FOLDS[:3]]
    return pd.concat([part[part["role"] == "held_out"].assign(fold=str(k)) for k, part in enumerate(parts)])


def test_labels_are_calibrated_by_other_folds_and_evaluated_one_by_one(multilabel):
    run("calibrate")
    cases = held_out()
    logits = cases.filter(like="logit_").to_numpy()
    targets = targets_of(cases["label"].tolist(), LABELS, "multilabel").astype(float)
    expected = np.zeros_like(logits)
    for fold in "012":
        mask = (cases["fold"] == fold).to_numpy()
        expected[mask] = expit(logits[mask] / fit_temperature(logits[~mask], targets[~mask]).value)
    table = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal'").set_index("case").loc[cases["case"]]
    np.testing.assert_allclose(table.filter(like="probability_"), expected)
    metrics = paths.read_json(paths.pooled_metrics("internal_calibrated"))
    known = [np.isfinite(column) for column in targets.T]
    areas = [oracle.roc_auc_score(targets[known[c], c], expected[known[c], c]) for c in (0, 1)]  # rare is never there
    assert metrics["auc"]["value"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert metrics["labels_in_mean"]["auc"] == 2 and metrics["labels_in_mean"]["log_loss"] == 3
    assert metrics["labels"]["rare"] == {"n": int(known[2].sum()), "events": 0}
    assert paths.read_json(paths.fold_metrics("1"))["n"] == (cases["fold"] == "1").sum()
    classes = pd.read_csv(paths.PER_CLASS).query("scope == 'internal'").set_index("class")
    assert classes["n_known"].to_dict() == {name: int(mask.sum()) for name, mask in zip(LABELS, known, strict=True)}
    assert np.isnan(classes.loc["rare", "auc"]) and classes.loc["edema", "auc"] == pytest.approx(areas[1])
    assert pd.read_csv(paths.COLLAPSES).empty and pd.read_csv(paths.RELIABILITY)["n"].sum() > len(cases)


def test_page_says_how_labels_were_averaged_and_what_was_left_out(multilabel):
    run("calibrate")
    told = page()
    assert "a mean AUC over labels of" in told and "AUC, mean over labels" in told
    assert "mean covers fewer labels: 2 of 3 (AUC" in told
    assert "all known pairs of case and label in one (micro)" in told
    assert "Known (events)" in told and "There is no warning for labels that are never found" in told
    assert "top label" not in told and "Class never recognised" not in told


def test_a_site_left_out_and_a_search_do_not_trip_over_several_labels(multilabel):
    multilabel(split__folds=[*FOLDS, "without-inside"])
    run("cohort", "preprocess", "split")
    relabel("multilabel", LABELS, labels_of_patients)
    for fold in (*FOLDS, "without-inside"):
        write_predictions(fold, right_more_often_than_not, 3)
        record(fold, unlabelled_sites=[], search=searched(), asked="auto")
    run("calibrate")
    (row,) = pd.read_csv(paths.LEFT_OUT).to_dict("records")
    metrics = paths.read_json(paths.fold_metrics("without-inside"))
    assert (row["n"], row["auc"]) == (metrics["n"], metrics["auc"]["value"]) and np.isnan(row["worst_recall"])
    assert pd.read_csv(paths.SEARCH).empty and pd.read_csv(paths.VALIDATORS).empty
    assert "The candidates are not evaluated afterwards" in page()


def test_grades_have_kappa_and_median_error_with_intervals(project):
    grades = ["none", "mild", "severe"]
    project(adapt__method="none")
    run("cohort", "preprocess", "split")
    relabel("ordinal", grades, lambda table: {p: grades[i % 3] for i, p in enumerate(sorted(set(table["patient"])))})

    def near(cases, draws):
        truth = cases["label"].map(grades.index).to_numpy()
        return -((np.arange(3) - truth[:, None] - draws.normal(0, 0.7, (len(cases), 1))) ** 2)

    for fold in FOLDS:
        write_predictions(fold, near, 3)
    run("calibrate")
    metrics = paths.read_json(paths.pooled_metrics("internal_calibrated"))
    table = pd.read_csv(paths.PREDICTIONS, keep_default_na=False).query("scope == 'internal'")
    truth, p = table["label"].map(grades.index), table.filter(like="probability_").to_numpy(dtype=float)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    kappa = oracle.cohen_kappa_score(truth, p.argmax(axis=1), weights="quadratic")
    median = [next(k for k in range(3) if row[: k + 1].sum() >= 0.5) for row in p]
    assert metrics["quadratic_kappa"]["value"] == pytest.approx(kappa, abs=1e-6)
    assert metrics["grade_error"]["value"] == pytest.approx(np.abs(truth - median).mean(), abs=1e-6)
    assert metrics["grade_error"]["lower"] < metrics["grade_error"]["value"] < metrics["grade_error"]["upper"]
    assert "Quadratic-weighted kappa of the most probable grade" in page()


def test_every_repetition_is_calibrated_within_itself(project):
    predict_two_classes(project, FOLDS)
    run("calibrate")
    kept = [
        paths.CALIBRATOR,
        paths.pooled_metrics("internal_calibrated"),
        paths.PER_CLASS,
        paths.ROC,
        paths.PREDICTIONS,
    ]
    before = [file.read_bytes() for file in kept]
    assert pd.read_csv(paths.REPEATS)["repetition"].tolist() == ["r1"]
    assert "Repetitions" not in page()
    repeated = ("r2-0", "r2-1", "r2-2")
    predict_two_classes(project, (*FOLDS, *repeated))
    run("calibrate")
    assert [file.read_bytes() for file in kept] == before
    cases = pd.concat([pd.read_csv(paths.predictions(fold)).assign(fold=fold) for fold in repeated], ignore_index=True)
    cases = cases[cases["role"] == "held_out"]
    logits, labels = cases.filter(like="logit_").to_numpy(), (cases["label"] == "ill").to_numpy().astype(int)
    p = np.zeros(len(cases))
    for fold in repeated:
        mask = (cases["fold"] == fold).to_numpy()
        p[mask] = fit_temperature(logits[~mask], labels[~mask]).apply(logits[mask])[:, 1]
    rows = pd.read_csv(paths.REPEATS).set_index("repetition")
    assert rows.loc["r2", "auc"] == pytest.approx(oracle.roc_auc_score(labels, p), abs=1e-6)
    assert rows.loc["r2", "log_loss"] == pytest.approx(oracle.log_loss(labels, p), abs=1e-6)
    assert (rows.loc["r2", "n"], rows.loc["r2", "events"]) == (len(labels), labels.sum())
    first = paths.read_json(paths.pooled_metrics("internal_calibrated"))
    assert rows.loc["r1", "auc"] == first["auc"]["value"] and rows.loc["r1", "auc_upper"] == first["auc"]["upper"]
    assert paths.read_json(paths.fold_metrics("r2-1"))["n"] == (cases["fold"] == "r2-1").sum()
    low, high = sorted(rows["log_loss"])
    assert f"log-loss between {low:.3f} and {high:.3f}" in page()


def test_a_repetition_of_one_fold_is_refused_with_the_cure(project, capsys):
    predict_two_classes(project, (*FOLDS, "r2-1"))
    assert "split.folds: name at least two folds of r2" in refusal(capsys, "calibrate")


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_patients_are_evaluated_besides_their_unchanged_images(project, rule):
    predict_two_classes(project, FOLDS)
    run("calibrate")
    before = paths.pooled_metrics("internal_calibrated").read_bytes()
    project(calibrate__per_patient=rule)
    run("calibrate")
    assert paths.pooled_metrics("internal_calibrated").read_bytes() == before
    table = pd.read_csv(paths.PREDICTIONS, keep_default_na=False)
    images, patients = (table[table["scope"] == scope] for scope in ("internal", "internal_patients"))
    maps = paths.read_json(paths.CALIBRATOR)["cross_fitted"]
    temperature = images["fold"].map({fold: one["temperature"] for fold, one in maps.items()})
    evidence = (images["logit_1"] - images["logit_0"]) / temperature
    joined = getattr(evidence.groupby(images["patient"]), rule)()
    np.testing.assert_allclose(patients.set_index("patient")["probability_1"], expit(joined[patients["patient"]]))
    metrics = paths.read_json(paths.pooled_metrics("internal_patients_calibrated"))
    assert metrics["n"] == metrics["patients"] == images["patient"].nunique() < len(images)
    truth = patients["label"] == "ill"
    assert metrics["auc"]["value"] == pytest.approx(oracle.roc_auc_score(truth, patients["probability_1"]), abs=1e-6)
    assert paths.pooled_metrics("external_patients_uncalibrated").exists()
    told = page()
    assert "image by image" in told and "The released model answers image by image" in told


def test_unsuitable_patient_rule_is_refused_with_parameter_and_cure(multilabel, capsys):
    multilabel(calibrate__per_patient="max")
    run("calibrate")
    facts = paths.read_json(paths.COHORT_FACTS)
    paths.write_json(facts | {"patients_known": False}, paths.COHORT_FACTS)
    assert "cohort.csv has no column patient_id" in refusal(capsys, "calibrate")
    paths.write_json(facts, paths.COHORT_FACTS)
    cases = pd.read_csv(paths.predictions("0"), keep_default_na=False)
    twice = cases[cases["role"] == "held_out"].groupby("patient").filter(lambda images: len(images) > 1)
    another = "no finding" if "blob" in twice["label"].iloc[0] else "blob"
    paths.write_table(
        cases.assign(label=cases["label"].mask(cases.index == twice.index[0], another)), paths.predictions("0")
    )
    message = refusal(capsys, "calibrate")
    assert twice["patient"].iloc[0] in message and "calibrate.per_patient is max" in message and "none" in message
