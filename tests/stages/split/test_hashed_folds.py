import numpy as np
import pandas as pd
import pytest

from pipeline.stages.split import hashed_folds
from pipeline.stages.split.hashed_folds import COMMON, MANY, assign_by_hash, is_large
from pipeline.stages.split.leakage import joined_patients
from pipeline.stages.split.partition import TARGET, early_stopping_set, grouped_folds


def cohort(numbers, rare=0.01):
    """One to four cases a patient; class and number of cases depend on the patient alone."""
    draws = {n: np.random.default_rng(10_000 + n).random(2) for n in numbers}
    rows = [(f"p{n}", draws[n][0]) for n in numbers for _ in range(1 + int(4 * draws[n][1]))]
    cases = pd.DataFrame(rows, columns=["patient", "u"])
    label = np.select([cases["u"] < rare, cases["u"] < 0.3], ["rare", "ill"], "well")
    return cases.assign(label=label, side="development")


def of_patients(cases, folds):
    assert cases.assign(fold=folds).groupby("patient")["fold"].nunique().max() == 1
    return pd.Series(folds, index=cases["patient"]).groupby(level=0).first()


def test_nobody_of_a_large_cohort_moves_when_patients_are_added():
    before, after = cohort(range(3000), rare=0), cohort(range(-30, 3030), rare=0)
    first = of_patients(before, grouped_folds(before, 5, 0))
    assert (of_patients(after, grouped_folds(after, 5, 0))[first.index] == first).all()
    first = of_patients(before, early_stopping_set(before, 0.2, 0))
    assert (of_patients(after, early_stopping_set(after, 0.2, 0))[first.index] == first).all()
    assert first.mean() == pytest.approx(0.2, abs=0.03)


def test_new_patients_of_a_rare_class_move_few_others_of_it():
    before, after = cohort(range(3000), rare=0.03), cohort(range(3100), rare=0.03)
    rare, then_rare = (set(cases.loc[cases["label"] == "rare", "patient"]) for cases in (before, after))
    moves = []
    for seed in range(5):
        first, then = (of_patients(cases, grouped_folds(cases, 5, seed)) for cases in (before, after))
        moved = first.index[first != then[first.index]]
        assert set(moved) <= rare
        for folds, some in ((first, rare), (then, then_rare)):
            assert np.ptp(np.bincount(folds[list(some)], minlength=5)) <= 1
        moves.append(len(moved) / len(then_rare - rare))
    assert 0 < np.mean(moves) < 2 and max(moves) < 4


def test_a_common_class_is_spread_by_chance_and_no_worse():
    cases = cohort(range(6000))
    folds = of_patients(cases, grouped_folds(cases, 5, 0))
    label = cases.groupby("patient")["label"].first()
    for name in ("ill", "well"):
        counts = np.bincount(folds[label.index[label == name]], minlength=5)
        chance = np.sqrt(counts.sum() * 0.2 * 0.8)
        assert (np.abs(counts - counts.mean()) < 3.5 * chance).all()


def test_each_answer_to_a_rare_label_is_in_every_fold():
    rng = np.random.default_rng(0)
    cases = pd.DataFrame({"patient": [f"p{n}" for n in range(2500)], "label": "", "side": "development"})
    cases[f"{TARGET}often"] = rng.integers(0, 2, 2500)
    cases[f"{TARGET}rare"] = np.isin(np.arange(2500), rng.choice(2500, 7)).astype(int)
    folds = grouped_folds(cases, 5, 0)
    assert set(folds[cases[f"{TARGET}rare"] == 1]) == set(range(5))


def test_patients_who_share_an_image_are_in_the_same_fold():
    cases = cohort(range(3000))
    pairs = pd.DataFrame({"patient": ["p1", "p7", "p10"], "other_patient": ["p7", "p2999", "p11"]})
    folds = grouped_folds(cases.assign(patient=joined_patients(cases, pairs)), 5, 0)
    fold = pd.Series(folds, index=cases["patient"]).groupby(level=0).first()
    assert fold["p1"] == fold["p7"] == fold["p2999"] and fold["p10"] == fold["p11"]
    alone = of_patients(cases, grouped_folds(cases, 5, 0))
    others = alone.index.difference(["p1", "p7", "p2999", "p10", "p11"])
    rare = set(cases.loc[cases["label"] == "rare", "patient"])
    assert all(fold[name] == alone[name] for name in others if name not in rare)


def test_fewer_folds_leave_all_others_where_they_are():
    cases = cohort(range(3000), rare=0)
    five, four = grouped_folds(cases, 5, 0), grouped_folds(cases, 4, 0)
    assert (five[five < 4] == four[five < 4]).all()


def test_another_seed_gives_other_folds_and_row_order_does_not_matter():
    cases = cohort(range(2500))
    order = np.random.default_rng(1).permutation(len(cases))
    folds = grouped_folds(cases, 5, 0)
    assert (grouped_folds(cases.iloc[order], 5, 0) == folds[order]).all()
    assert np.mean(grouped_folds(cases, 5, 1) == folds) == pytest.approx(0.2, abs=0.05)


def test_the_same_patients_go_to_the_same_parts_in_every_version():
    names, none = [f"patient-{n}" for n in range(12)], np.zeros((12, 0), dtype=bool)
    assert assign_by_hash(names, none, 5, 0).tolist() == [1, 1, 2, 1, 3, 1, 1, 3, 0, 0, 0, 3]


def test_patients_of_very_many_cases_count_as_fewer():
    assert is_large([f"p{n}" for n in range(MANY)]) and not is_large([f"p{n}" for n in range(MANY - 1)])
    assert not is_large([f"p{n}" for n in range(MANY)] + ["p0"] * 100)


def test_a_small_cohort_is_balanced_over_all_its_patients(monkeypatch):
    cases = cohort(range(MANY - 1))
    folds = grouped_folds(cases, 5, 0)
    assert np.ptp(np.bincount(folds[cases["label"] == "well"])) <= 2
    monkeypatch.setattr(hashed_folds, "MANY", 100)
    assert (grouped_folds(cases, 5, 0) != folds).any() and COMMON * 5 < MANY
