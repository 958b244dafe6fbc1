"""How a promise is evaluated: who is counted, with which interval, and that no case sets its own threshold."""

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.conformal import conformal_thresholds, sets_of
from pipeline.metrics.shares import wilson
from pipeline.stages.calibrate.coverage import (
    COVERAGE,
    ConformalSets,
    LabelledCases,
    conformal_sets_of,
    coverage_table,
    sets_elsewhere,
)

CLASSES = ["a", "b", "c"]


def drawn(n=240, seed=0, images=1):
    """Cases of as many patients as stand for `images` each; every image of a patient is the same."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), n)
    labels = (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    known = (
        probabilities,
        labels,
        np.array([f"p{number:03}" for number in range(n)]),
        np.array(["x", "y"])[np.arange(n) % 2],
    )
    return tuple(np.repeat(one, images, axis=0) for one in known)


def of(known, folds=None):
    """Build labelled cases from what `drawn` gives."""
    probabilities, labels, patients, sites = known
    folds = np.full(len(labels), "0") if folds is None else folds
    return LabelledCases(probabilities, labels, patients=patients, sites=sites, folds=folds)


def in_three_folds(probabilities, labels, patients, sites, of_fold=None):
    """Assign the cases to three folds; give them, and for each fold the other cases as its calibrator predicts them."""
    folds = np.array(["0", "1", "2"])[np.arange(len(labels)) % 3]
    elsewhere = {}
    for fold in "012":
        others = folds != fold
        prediction = probabilities if of_fold is None else of_fold[fold]
        elsewhere[fold] = LabelledCases(
            prediction[others], labels[others], patients=patients[others], sites=sites[others], folds=folds[others]
        )
    return of((probabilities, labels, patients, sites), folds), elsewhere


def tabulated(members, labels, patients=None, sites=None, n_calibration=50, alpha=0.1, by=None, confidence=0.95):
    n = len(labels)
    patients = np.arange(n).astype(str) if patients is None else patients
    sets = ConformalSets(np.array(members, dtype=bool), np.full(n, 1) * n_calibration, alpha, by)
    weights = cluster_weights(patients, 500, 0)
    sites = np.full(n, "x") if sites is None else sites
    evaluated = LabelledCases(
        np.empty((n, len(members[0]))), np.array(labels), patients=patients, sites=sites, folds=np.full(n, "0")
    )
    table = coverage_table(sets, evaluated, CLASSES[: len(members[0])], weights=weights, confidence=confidence)
    return table.set_index(["kind", "group"])


def test_a_small_table_is_right_by_hand():
    table = tabulated([[1, 0], [1, 1], [0, 0], [1, 0]], [0, 1, 0, 1], sites=np.array(["x", "x", "y", "y"]))
    assert table["coverage"].to_dict() == {
        ("marginal", "all"): 0.5,
        ("class", "a"): 0.5,
        ("class", "b"): 0.5,
        ("site", "x"): 1.0,
        ("site", "y"): 0.0,
        ("set size", "0"): 0.0,
        ("set size", "1"): 0.5,
        ("set size", "2"): 1.0,
    }
    whole = table.loc[("marginal", "all")]
    assert whole[["share_empty", "share_single", "share_full", "mean_set_size"]].tolist() == [0.25, 0.5, 0.25, 1.0]
    assert whole[["n", "patients", "covered", "promised"]].tolist() == [4, 4, 2, 0.9]


def test_every_case_is_counted_once_in_every_kind_of_row():
    probabilities, labels, patients, sites = drawn()
    rare = np.where((labels == 2) & (np.arange(240) > 20), 1, labels)
    found = conformal_thresholds(probabilities, rare, patients, 0.1, by="class")
    sets = conformal_sets_of(probabilities, rare, found)
    table = coverage_table(
        sets,
        of((probabilities, rare, patients, sites)),
        CLASSES,
        weights=cluster_weights(patients, 20, 0),
        confidence=0.95,
    )
    assert list(table.columns) == COVERAGE
    assert ((table["n"] + table["left_out"]).groupby(table["kind"]).sum() == 240).all()
    assert table.loc[table["kind"] == "class", "left_out"].tolist() == [0, 0, (rare == 2).sum()]


def test_a_group_of_too_few_calibration_patients_has_a_word_and_no_number():
    table = tabulated(np.ones((6, 2)), [0, 0, 0, 1, 1, 1], n_calibration=np.array([9, 9, 9, 8, 8, 8]))
    few = table.loc[("class", "b")]
    assert (few["note"], few["n"], few["left_out"], few["n_calibration"]) == ("too few", 0, 3, 8)
    assert pd.isna(few[["coverage", "coverage_lower", "coverage_upper", "mean_set_size", "share_full"]]).all()
    assert table.loc[("class", "a"), "coverage"] == 1
    assert table.loc[("marginal", "all"), ["n", "left_out"]].tolist() == [3, 3]


def test_the_interval_of_one_case_per_patient_is_wilsons():
    members = np.ones((50, 2))
    members[:5] = 0
    row = tabulated(members, np.zeros(50, dtype=int), confidence=0.9).loc[("marginal", "all")]
    assert row["interval"] == "Wilson, cases"
    assert row[["coverage_lower", "coverage_upper"]].tolist() == pytest.approx(wilson(45, 50, 1.6448536), abs=1e-6)
    assert row["coverage_of_patients_upper"] == row["coverage_upper"]


def test_images_that_only_repeat_a_patient_do_not_shrink_an_interval():
    width = {}
    for images in (2, 4):
        probabilities, labels, patients, sites = drawn(images=images)
        sets = conformal_sets_of(probabilities, labels, conformal_thresholds(probabilities, labels, patients, 0.1))
        table = coverage_table(
            sets,
            of((probabilities, labels, patients, sites)),
            CLASSES,
            weights=cluster_weights(patients, 500, 0),
            confidence=0.95,
        )
        whole = table.iloc[0]
        assert whole["interval"] == "bootstrap of patients"
        assert (whole["n"], whole["patients"]) == (240 * images, 240)
        width[images] = whole["coverage_upper"] - whole["coverage_lower"]
        lower, upper = wilson(round(whole["coverage"] * 240), 240)
        assert width[images] == pytest.approx(upper - lower, rel=0.15)
    assert width[2] == pytest.approx(width[4])


def test_coverage_without_a_miss_has_wilsons_interval_on_patients():
    table = tabulated(np.ones((100, 2)), np.zeros(100, dtype=int), patients=np.repeat(np.arange(50), 2).astype(str))
    row = table.loc[("marginal", "all")]
    assert row["coverage_lower"] == pytest.approx(1 - 0.0713, abs=1e-4)  # Wilson for 0 misses of 50
    assert (row["coverage_upper"], row["interval"]) == (1, "Wilson, patients")


def test_a_patient_is_covered_when_all_its_images_are():
    row = tabulated([[1, 0], [0, 1], [1, 0], [1, 0]], [0, 0, 0, 0], patients=np.array(["p", "p", "q", "q"]))
    assert row.loc[("marginal", "all"), "coverage"] == 0.75
    assert row.loc[("marginal", "all"), "coverage_of_patients"] == 0.5


def test_each_fold_is_evaluated_by_the_thresholds_of_the_others():
    known = probabilities, _, _, sites = drawn()
    cases, elsewhere = in_three_folds(*known)
    found = sets_elsewhere(cases, elsewhere, 0.1, "site")
    for fold in "012":
        evaluated, others = cases.folds == fold, cases.folds != fold
        there = elsewhere[fold]
        thresholds = conformal_thresholds(
            there.probabilities, there.labels, there.patients, 0.1, by="site", sites=sites[others]
        )
        assert (found.members[evaluated] == sets_of(probabilities[evaluated], thresholds, sites[evaluated])).all()
    assert set(found.n_calibration) == {80}


def test_a_fold_uses_its_own_calibrator_and_not_its_own_labels():
    known = probabilities, labels, *rest = drawn()
    sharper = probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True)
    cases, elsewhere = in_three_folds(*known)
    before = sets_elsewhere(cases, elsewhere, 0.1).members
    other = np.where(cases.folds == "1", (labels + 1) % 3, labels)
    others = in_three_folds(probabilities, other, *rest, of_fold={"0": sharper, "1": probabilities, "2": sharper})
    after = sets_elsewhere(*others, 0.1).members
    assert (before[cases.folds == "1"] == after[cases.folds == "1"]).all()
    assert (before[cases.folds == "2"] != after[cases.folds == "2"]).any()


def test_coverage_elsewhere_is_near_the_promise():
    known = drawn(3000)
    cases, elsewhere = in_three_folds(*known)
    for by in (None, "class", "site"):
        sets = sets_elsewhere(cases, elsewhere, 0.1, by)
        table = coverage_table(sets, cases, CLASSES, weights=cluster_weights(cases.patients, 20, 0), confidence=0.95)
        kept = table[table["kind"].isin(["marginal", by])]
        assert (kept["coverage"] - 0.9).abs().max() < 0.03
