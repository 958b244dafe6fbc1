import numpy as np
import pandas as pd
import pytest

from pipeline.metrics.grouped_folds import assign_evenly
from pipeline.stages.split.partition import (
    TARGET,
    Leak,
    answers,
    cases_of_site,
    early_stopping_set,
    grouped_folds,
    name_of_site,
    refuse_leaks,
    reserved_by_hash,
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


def test_reserved_by_hash_draws_the_same_patients_in_every_version():
    names = [f"patient-{n}" for n in range(40)]
    assert [n for n, inside in enumerate(reserved_by_hash(names, 0.2, 0)) if inside] == [15, 18]


def test_test_patients_stay_in_the_test_set_when_the_cohort_grows():
    before = [f"patient-{n}" for n in range(200)]
    after = [f"patient-{n}" for n in range(-300, 600)]
    test = dict(zip(before, reserved_by_hash(before, 0.2, 0), strict=True))
    later = dict(zip(after, reserved_by_hash(after, 0.2, 0), strict=True))
    assert all(later[name] == inside for name, inside in test.items())
    assert np.mean(list(later.values())) == pytest.approx(0.2, abs=0.04)


def test_a_larger_fraction_only_adds_patients():
    names = [f"patient-{n}" for n in range(300)]
    small, large = reserved_by_hash(names, 0.1, 0), reserved_by_hash(names, 0.4, 0)
    assert all(b for a, b in zip(small, large, strict=True) if a)


def test_patient_on_both_sides_is_refused_unless_acknowledged():
    sides = ["test", "development", "test", "development", "test"]
    cases = pd.DataFrame({"patient": ["c", "c", "b", "a", "a"], "side": sides})
    with pytest.raises(Leak) as leak:
        refuse_leaks(cases, allowed=["a"])
    assert leak.value.patients == ["c"]
    assert refuse_leaks(cases, allowed=["a", "c"]) == ["a", "c"]
    assert refuse_leaks(cases.assign(side="development"), allowed=["a"]) == []


@pytest.mark.parametrize(("other", "stamped"), [("development", []), ("test", ["a"])])
def test_calibration_patient_with_another_role_is_refused(other, stamped):
    cases = pd.DataFrame({"patient": ["a", "a", "b"], "side": ["calibration", other, "calibration"]})
    with pytest.raises(Leak, match="1 patient.s. appear in more than one of development, calibration") as leak:
        refuse_leaks(cases, allowed=["b"])
    assert leak.value.patients == ["a"]
    assert refuse_leaks(cases, allowed=["a"]) == stamped


def test_validation_set_has_every_class_and_no_training_patient():
    cases = cohort()
    validation = early_stopping_set(cases, 0.2, 0)
    assert not set(cases.loc[validation, "patient"]) & set(cases.loc[~validation, "patient"])
    assert set(cases.loc[validation, "label"]) == {"ill", "well"}
    assert validation.mean() == pytest.approx(0.2, abs=0.1)


def test_roles_keep_evaluated_patients_out_of_everything_that_is_fitted():
    cases = cohort()
    cases.loc[cases["patient"].isin(["p38", "p39"]), "side"] = "test"
    unlabelled = pd.DataFrame({"patient": ["p39", "p00", "new"], "label": "", "side": "unlabelled"})
    cases = pd.concat([cases, unlabelled], ignore_index=True)
    development = (cases["side"] == "development").to_numpy()
    fold_of_case = np.full(len(cases), -1)
    fold_of_case[development] = grouped_folds(cases[development], 5, 0)
    for fold in [*range(5), None]:
        held_out = np.zeros(len(cases), bool) if fold is None else fold_of_case == fold
        roles = pd.Series(roles_in_fold(cases, held_out, 0.2, 0))
        evaluated = set(cases.loc[roles.isin(["held_out", "test"]), "patient"])
        fitted = set(cases.loc[roles.isin(["train", "validation", "unlabelled"]), "patient"])
        assert not evaluated & fitted
        assert roles.iloc[-3] == "excluded"  # its patient is in the test set
        assert roles.iloc[-1] == "unlabelled"
        assert (roles == "held_out").sum() == (0 if fold is None else (fold_of_case == fold).sum())


def test_calibration_patients_have_that_role_alone_in_every_training():
    cases = cohort()
    cases.loc[cases["patient"].isin(["p38", "p39"]), "side"] = "calibration"
    more = [
        ("p39", "", "unlabelled"),
        ("p00", "well", "calibration"),  # of a patient who is developed on
        ("p50", "well", "calibration"),
        ("p50", "well", "test"),
    ]
    cases = pd.concat([cases, pd.DataFrame(more, columns=["patient", "label", "side"])], ignore_index=True)
    development = (cases["side"] == "development").to_numpy()
    fold_of_case = np.full(len(cases), -1)
    fold_of_case[development] = grouped_folds(cases[development], 5, 0)
    for fold in [*range(5), None]:
        held_out = np.zeros(len(cases), bool) if fold is None else fold_of_case == fold
        roles = pd.Series(roles_in_fold(cases, held_out, 0.2, 0))
        assert set(cases.loc[roles == "calibration", "patient"]) == {"p38", "p39"}
        others = roles.isin(["train", "validation", "held_out", "test", "unlabelled"])
        assert not set(cases.loc[others, "patient"]) & {"p38", "p39"}
        assert roles.iloc[-4:].tolist() == ["excluded", "excluded", "excluded", "test"]
        assert others[development].all()


def test_each_development_case_is_held_out_exactly_once():
    cases = cohort()
    folds = grouped_folds(cases, 5, 0)
    held = sum(np.array(roles_in_fold(cases, folds == fold, 0.2, 0)) == "held_out" for fold in range(5))
    assert (held == 1).all()


def cohort_of_sites():
    """Two sites, one patient of both, unlabelled cases of both, one of them of a patient who is held out."""
    cases = cohort()
    number = cases["patient"].str[1:].astype(int)
    cases["site"] = np.where(number < 20, "St. Mary", "north")
    more = [
        ("p00", "well", "development", "north"),
        ("new", "", "unlabelled", "St. Mary"),
        ("p01", "", "unlabelled", "St. Mary"),
        ("other", "", "unlabelled", "north"),
    ]
    return pd.concat([cases, pd.DataFrame(more, columns=["patient", "label", "side", "site"])], ignore_index=True)


def test_site_left_out_is_held_out_whole_and_without_shared_patients():
    cases = cohort_of_sites()
    held_out = cases_of_site(cases, "St-Mary")
    roles = pd.Series(roles_in_fold(cases, held_out, 0.2, 0))
    of_site = (cases["site"] == "St. Mary") & (cases["side"] == "development")
    assert ((roles == "held_out") == of_site).all()
    fitted = roles.isin(["train", "validation", "unlabelled"])
    assert not set(cases.loc[fitted, "patient"]) & set(cases.loc[of_site, "patient"])
    assert roles.iloc[-4:].tolist() == ["excluded", "unlabelled", "excluded", "unlabelled"]
    rest = (cases["site"] == "north") & (cases["side"] == "development") & (cases["patient"] != "p00")
    assert (roles.isin(["train", "validation"]) == rest).all()


def test_a_site_left_out_blind_differs_in_its_unlabelled_cases_alone():
    cases = cohort_of_sites()
    held_out = cases_of_site(cases, "St-Mary")
    seen = np.array(roles_in_fold(cases, held_out, 0.2, 0))
    blind = np.array(roles_in_fold(cases, held_out, 0.2, 0, (cases["site"] == "St. Mary").to_numpy()))
    assert cases.index[seen != blind].tolist() == [len(cases) - 3] and blind[-3] == "excluded"


def test_a_site_of_an_awkward_name_is_called_by_letters_digits_and_dashes():
    assert name_of_site("north_2-b") == "north_2-b"
    assert name_of_site("Z\u00fcrich / Nord") == "Z-rich-Nord"


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ({}, "mars", "of a site called 'mars'; the sites are: St-Mary, north$"),
        ({"site": "north"}, "north", "no other site is left to train on.*are: north$"),
        ({"site": ""}, "north", "the cohort names no site"),
        ({"side": "test"}, "north", "the cohort names no site"),
    ],
)
def test_site_that_cannot_be_left_out_is_refused_with_the_known_names(change, name, said):
    with pytest.raises(ValueError, match=said):
        cases_of_site(cohort_of_sites().assign(**change), name)


def test_site_is_not_left_out_if_a_class_then_lacks_two_patients():
    cases = cohort_of_sites()
    cases.loc[(cases["site"] == "north") & (cases["patient"] != "p21"), "label"] = "well"
    with pytest.raises(ValueError, match=r"1 patient\(s\) of class 'ill' remain .* are: St-Mary, north"):
        cases_of_site(cases, "St-Mary")


def test_two_sites_of_the_same_safe_name_are_refused():
    cases = cohort_of_sites()
    cases.loc[:5, "site"] = "St  Mary"
    with pytest.raises(ValueError, match="the sites St  Mary and St. Mary are both written 'St-Mary'"):
        cases_of_site(cases, "St-Mary")


LABELS = {"common": 0.5, "middle": 0.25, "rare": 0.12}
COLUMNS = [f"{TARGET}{name}" for name in LABELS]


def cohort_of_labels(patients=120, seed=0, unknown=0.1):
    """One to four cases a patient; a case shows most of what its patient has, and some of it nobody has looked for."""
    rng = np.random.default_rng(seed)
    names = np.array([f"p{n:03d}" for n in range(patients) for _ in range(rng.integers(1, 5))])
    has = (rng.random((patients, 3)) < list(LABELS.values()))[np.unique(names, return_inverse=True)[1]]
    targets = (has & (rng.random(has.shape) < 0.8)).astype(float)
    targets[rng.random(has.shape) < unknown] = np.nan
    return pd.DataFrame({"patient": names, "label": "not read", "side": "development"}).join(
        pd.DataFrame(targets, columns=COLUMNS)
    )


def ranges(marks, parts):
    """How far the counts of each column differ between parts."""
    return np.ptp(pd.DataFrame(marks).groupby(parts).sum().to_numpy(), axis=0)


@pytest.mark.parametrize("unknown", [0.0, 0.1, 0.6])
def test_every_label_is_spread_evenly_over_folds_far_better_than_by_chance(unknown):
    for seed in range(10):
        cases = cohort_of_labels(seed=seed, unknown=unknown)
        present = (cases[COLUMNS] == 1).to_numpy()
        folds = grouped_folds(cases, 5, seed)
        assert cases.assign(fold=folds).groupby("patient")["fold"].nunique().max() == 1
        of_patient = cases[["patient"]].assign(n=present.sum(axis=1)).groupby("patient")["n"].max().to_numpy()
        rng, number = np.random.default_rng(seed), np.unique(cases["patient"], return_inverse=True)[1]
        chance = [ranges(present, rng.permutation(np.arange(len(of_patient)) % 5)[number]) for _ in range(20)]
        assert (ranges(present, folds) <= np.min(chance, axis=0)).all()
        most = pd.DataFrame(present).groupby(cases["patient"].to_numpy()).sum().max().to_numpy()
        assert (ranges(present, folds) <= most).all()


def test_rarest_label_differs_between_parts_by_at_most_one_patient():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        patients = rng.integers(0, 30, 200).astype(str)
        given = rng.random((200, 3)) < [0.02, 0.5, 0.9]
        of_patient = pd.DataFrame(given).groupby(patients).sum()
        rarest = int((of_patient > 0).sum().argmin())
        parts = assign_evenly(patients.tolist(), given, 4, seed)
        assert ranges(given, parts)[rarest] <= of_patient[rarest].max()


def test_patients_of_whom_nothing_is_known_even_out_the_sizes():
    patients = [f"p{n:02d}" for n in range(50)]
    parts = assign_evenly(patients, np.zeros((50, 2), dtype=bool), 5, 0)
    assert np.bincount(parts).tolist() == [10] * 5
    assert parts.tolist() != assign_evenly(patients, np.zeros((50, 2), dtype=bool), 5, 1).tolist()


def test_split_of_several_labels_depends_on_the_seed_and_not_on_row_order():
    cases = cohort_of_labels()
    order = np.random.default_rng(1).permutation(len(cases))
    assert (grouped_folds(cases.iloc[order], 5, 0) == grouped_folds(cases, 5, 0)[order]).all()
    assert (early_stopping_set(cases.iloc[order], 0.2, 0) == early_stopping_set(cases, 0.2, 0)[order]).all()
    assert (grouped_folds(cases, 5, 1) != grouped_folds(cases, 5, 0)).any()


@pytest.mark.parametrize(("value", "word"), [(1, "present"), (0, "absent")])
def test_label_with_too_few_patients_for_an_answer_is_refused_by_name(value, word):
    cases = cohort_of_labels(unknown=0).reset_index(drop=True)
    cases["target_middle"] = np.where(cases["patient"] < "p003", value, 1 - value)
    assert sorted(set(grouped_folds(cases, 3, 0))) == [0, 1, 2]
    with pytest.raises(ValueError, match=rf"label 'middle' \(known {word}\) has 3 patient\(s\), fewer than split.n_f"):
        grouped_folds(cases, 4, 0)
    cases["target_middle"] = 1 - value
    with pytest.raises(ValueError, match=rf"label 'middle' \(known {word}\) has 0 patient\(s\)"):
        grouped_folds(cases, 2, 0)


def test_validation_set_of_several_labels_has_its_share_of_each_answer():
    for seed in range(10):
        cases = cohort_of_labels(seed=seed)
        validation = early_stopping_set(cases, 0.2, seed)
        assert not set(cases.loc[validation, "patient"]) & set(cases.loc[~validation, "patient"])
        given = answers(cases)
        shares = given[validation].sum() / given.sum()
        assert shares.between(0.1, 0.3).all() and validation.mean() == pytest.approx(0.2, abs=0.03)


def test_site_is_not_left_out_if_a_label_then_lacks_two_patients():
    cases = cohort_of_labels(unknown=0)
    cases["site"] = np.where(cases["patient"] < "p060", "south", "north")
    assert cases_of_site(cases, "south").sum() == (cases["site"] == "south").sum()
    cases.loc[(cases["site"] == "north") & (cases["patient"] != "p100"), "target_rare"] = np.nan
    with pytest.raises(ValueError, match=r"[01] patient\(s\) of label 'rare' \(known present\) remain for training"):
        cases_of_site(cases, "south")
