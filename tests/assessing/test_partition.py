import numpy as np
import pandas as pd
import pytest

from pipeline.assessing.partition import (
    Leak,
    grouped_folds,
    inner_stopping_set,
    locked_by_hash,
    refuse_leaks,
    roles_in_fold,
)


def cohort(patients=40, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"p{n:02d}" for n in range(patients) for _ in range(rng.integers(1, 4))]
    labels = {name: "ill" if int(name[1:]) % 3 == 0 else "well" for name in names}
    return pd.DataFrame({"patient": names, "label": [labels[name] for name in names], "side": "development"})


def test_no_patient_is_in_two_folds_and_classes_are_spread():
    cases = cohort()
    folds = grouped_folds(cases, 5, 0)
    assert set(folds) == set(range(5))
    assert cases.assign(fold=folds).groupby("patient")["fold"].nunique().max() == 1
    shares = cases.assign(fold=folds, ill=cases["label"] == "ill").groupby("fold")["ill"].mean()
    assert shares.max() - shares.min() < 0.25


def test_a_class_of_fewer_patients_than_folds_is_refused_by_name():
    cases = pd.DataFrame({"patient": ["a", "b", "c", "c", "c"], "label": ["x", "x", "y", "y", "y"]})
    with pytest.raises(ValueError, match=r"class 'y' has 1 patient\(s\), fewer than split.n_folds = 2"):
        grouped_folds(cases, 2, 0)


def test_who_is_locked_stays_locked_when_the_cohort_grows():
    before = [f"patient-{n}" for n in range(200)]
    after = [f"patient-{n}" for n in range(-300, 600)]
    locked = dict(zip(before, locked_by_hash(before, 0.2, 0), strict=True))
    later = dict(zip(after, locked_by_hash(after, 0.2, 0), strict=True))
    assert all(later[name] == inside for name, inside in locked.items())
    assert np.mean(list(later.values())) == pytest.approx(0.2, abs=0.04)


def test_a_larger_fraction_only_adds_patients():
    names = [f"patient-{n}" for n in range(300)]
    small, large = locked_by_hash(names, 0.1, 0), locked_by_hash(names, 0.4, 0)
    assert all(b for a, b in zip(small, large, strict=True) if a)


def test_a_patient_on_both_sides_is_refused_by_pseudonym_unless_acknowledged():
    cases = pd.DataFrame({"patient": ["a", "a", "b", "c", "c"]})
    locked = [True, False, True, False, True]
    with pytest.raises(Leak) as leak:
        refuse_leaks(cases, locked, allowed=["a"])
    assert leak.value.patients == ["c"]
    assert refuse_leaks(cases, locked, allowed=["a", "c"]) == ["a", "c"]
    assert refuse_leaks(cases, [False] * 5, allowed=["a"]) == []


def test_the_inner_set_shares_no_patient_with_training_and_holds_every_class():
    cases = cohort()
    inner = inner_stopping_set(cases, 0.2, 0)
    assert not set(cases.loc[inner, "patient"]) & set(cases.loc[~inner, "patient"])
    assert set(cases.loc[inner, "label"]) == {"ill", "well"}
    assert inner.mean() == pytest.approx(0.2, abs=0.1)


def test_roles_keep_judged_patients_out_of_everything_that_is_fitted():
    cases = cohort()
    cases.loc[cases["patient"].isin(["p38", "p39"]), "side"] = "locked"
    unlabelled = pd.DataFrame({"patient": ["p39", "p00", "new"], "label": "", "side": "unlabelled"})
    cases = pd.concat([cases, unlabelled], ignore_index=True)
    development = (cases["side"] == "development").to_numpy()
    fold_of_case = np.full(len(cases), -1)
    fold_of_case[development] = grouped_folds(cases[development], 5, 0)
    for fold in [*range(5), None]:
        roles = pd.Series(roles_in_fold(cases, fold_of_case, fold, 0.2, 0))
        judged = set(cases.loc[roles.isin(["held_out", "locked"]), "patient"])
        fitted = set(cases.loc[roles.isin(["train", "inner", "unlabelled"]), "patient"])
        assert not judged & fitted
        assert roles.iloc[-3] == "excluded"  # its patient is locked
        assert roles.iloc[-1] == "unlabelled"
        assert (roles == "held_out").sum() == (0 if fold is None else (fold_of_case == fold).sum())


def test_each_development_case_is_held_out_exactly_once():
    cases = cohort()
    folds = grouped_folds(cases, 5, 0)
    held = sum(np.array(roles_in_fold(cases, folds, fold, 0.2, 0)) == "held_out" for fold in range(5))
    assert (held == 1).all()
