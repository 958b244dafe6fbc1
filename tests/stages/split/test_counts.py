"""Cohorts in which some training has no case of a class, or hardly any."""

import numpy as np
import pandas as pd
import pytest

from pipeline.schema import Split
from pipeline.stages.cohort.checks import remarks_on_classes
from pipeline.stages.split.checks import problems_of_folds
from pipeline.stages.split.counts import (
    counted_roles,
    problems_of_roles,
    problems_of_training,
    remark_on_validation,
)
from pipeline.stages.split.partition import TARGET, grouped_folds, roles_in_fold

PAIRS = [(f"p{c}{k}", f"class{c}") for c in range(5) for k in range(2)]
TWO = [(f"p{k}", "a") for k in range(16)] + [("q0", "b"), ("q1", "b")]
MIXED = [*[("g0", "A")] * 8, *[("g0", "B")] * 2, *[("g1", "B")] * 10, *[("g2", "A")] * 10, *[("g3", "A")] * 2]
RARE = [(f"p{k}", "b" if k < 3 else "a") for k in range(200)]


def cases_of(rows, side="development"):
    table = pd.DataFrame(rows, columns=["patient", "label"])
    return table.assign(side=side, site="", case=[f"c{n}" for n in range(len(table))])


def of_folds(cases, n_folds=2):
    split = Split(n_folds=n_folds, folds=["final"], test="none")
    return list(problems_of_folds(cases, split, sorted(set(cases["label"]))))


@pytest.mark.parametrize("rows", [PAIRS, PAIRS * 2, TWO], ids=["pairs", "pairs of two images", "two of b"])
def test_a_class_of_two_patients_in_two_folds_is_refused(rows):
    problems = of_folds(cases_of(rows))
    assert all("has 2 patients, of which a fold leaves 1 for training and validation" in one for one in problems)
    assert len(problems) == (1 if rows is TWO else 5)


def test_a_fold_that_takes_all_patients_of_a_class_but_one_is_refused():
    cases = cases_of(MIXED)
    folds = grouped_folds(cases, 2, 0)
    problems = [one for fold in (0, 1) for one in problems_of_training(str(fold), cases, folds == fold)]
    assert any("fold 1 leaves 1 patient(s) of class 'A'" in one or "fold 0 leaves 1" in one for one in problems)


def test_answers_of_labels_are_counted_like_classes():
    cases = cases_of([(f"p{n}", "") for n in range(6)])
    cases[f"{TARGET}edema"] = [1, 0, 0, 0, 0, 1]
    (problem,) = problems_of_training("1", cases, np.arange(6) == 0)
    assert "fold 1 leaves 1 patient(s) of label 'edema' (known present)" in problem


def test_a_sound_cohort_has_no_problem_and_its_counts_add_up():
    cases = cases_of([(f"p{n}", "ab"[n % 2]) for n in range(40)])
    folds = grouped_folds(cases, 4, 0)
    roles = {str(fold): roles_in_fold(cases, folds == fold, 0.2, 0) for fold in range(4)}
    assert of_folds(cases, 4) == []
    for fold, given in roles.items():
        assert not [*problems_of_training(fold, cases, folds == int(fold)), *problems_of_roles(fold, cases, given)]
        assert remark_on_validation(fold, cases, given, 0.2) == ""
    counts = counted_roles(cases, roles)
    assert counts.groupby("fold")["cases"].sum().tolist() == [40] * 4
    assert counts.groupby("role")["patients"].sum()["held_out"] == 40


def test_a_class_that_is_validated_alone_is_refused():
    cases = cases_of([("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")])
    (problem,) = problems_of_roles("0", cases, ["train", "train", "validation", "validation"])
    assert "leaves 2 patient(s) of class 'b'" in problem


def test_a_share_of_validation_that_a_rare_class_forces_is_told():
    cases = cases_of(RARE)
    remark = remark_on_validation("final", cases, roles_in_fold(cases, np.zeros(200, bool), 0.1, 0), 0.1)
    assert remark.startswith("fold final: 3") and "class 'b' has 3 patients" in remark


@pytest.mark.parametrize("side", ["test", "unlabelled", "calibration"])
def test_a_cohort_without_development_cases_is_told_so(side):
    (problem,) = of_folds(cases_of(TWO, side=side))
    assert problem.startswith(f"no case is left to develop on (of all: 18 {side})")


def test_cohort_names_classes_of_nobody_and_of_the_test_set_alone():
    table = pd.DataFrame({"label": ["a", "b", "c", "c;d"], "split": ["", "development", "test", "test"]})
    assert [one[:34] for one in remarks_on_classes(table, "multiclass", ["a", "b", "c", "e"])] == [
        "no case has the class 'e', so that",
        "only test cases have the class 'c'",
    ]
    assert "'d'" in remarks_on_classes(table, "multilabel", ["a", "d"])[0]
