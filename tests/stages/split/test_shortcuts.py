import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from pipeline.stages.split.hashed_folds import MANY
from pipeline.stages.split.shortcuts import (
    Guess,
    cramers_v,
    intensity_predicts_site,
    mean_over_labels,
    site_predicts_label,
    site_predicts_labels,
)


def labelled(site, label, patients=None, side="development"):
    patients = [f"p{n:03d}" for n in range(len(site))] if patients is None else patients
    return pd.DataFrame({"patient": patients, "site": site, "label": label, "side": side})


def test_a_site_that_is_the_label_gives_it_away_entirely():
    guess = site_predicts_label(labelled(["a"] * 30 + ["b"] * 20, ["x"] * 30 + ["y"] * 20))
    assert (guess.measure, guess.value, guess.chance, guess.n) == ("AUC", 1.0, 0.5, 50)
    assert guess.cramers_v == pytest.approx(1)
    three = site_predicts_label(labelled(list("abc") * 10, list("xyz") * 10))
    assert (three.measure, three.value, three.chance) == ("balanced accuracy", 1.0, pytest.approx(1 / 3))


def test_a_site_without_relation_to_the_label_predicts_nothing():
    site, label = np.random.default_rng(0).choice(list("ab"), size=(2, 600))
    guess = site_predicts_label(labelled(site, label))
    assert guess.value == pytest.approx(0.5, abs=0.06)
    assert guess.cramers_v == pytest.approx(0, abs=0.06)


def test_a_site_of_one_patient_predicts_nothing_about_another():
    people = np.repeat(np.arange(40), 10)
    label = np.where(np.random.default_rng(0).permutation(40) < 20, "x", "y")[people]
    guess = site_predicts_label(labelled([f"s{p}" for p in people], label, [f"p{p}" for p in people]))
    assert guess.value < 0.6
    assert guess.cramers_v is None


def test_shortcut_uses_only_labelled_development_cases_of_known_sites():
    used = labelled(list("ab") * 20, list("xy") * 20)
    test = labelled(list("ab") * 20, list("yx") * 20, [f"q{n}" for n in range(40)], side="test")
    unknown = labelled(["a"] * 9 + ["", "a"], [""] * 9 + ["x", "rare"], [f"r{n}" for n in range(11)])
    assert site_predicts_label(pd.concat([used, test, unknown])) == site_predicts_label(used)


def test_a_rare_class_counts_as_much_as_a_common_one():
    site = ["a"] * 80 + ["b"] * 30 + ["c"] * 10
    guess = site_predicts_label(labelled(site, ["x"] * 100 + ["y"] * 10 + ["z"] * 10))
    assert guess.value == pytest.approx((80 / 100 + 1 + 1) / 3)
    cases = labelled(["a"] * 400 + ["b"] * 40, "")
    level = np.random.default_rng(0).normal(np.repeat([0.0, 2.0], [400, 40]))[:, None]
    assert intensity_predicts_site(cases, level).value == pytest.approx(0.84, abs=0.06)  # half of 2 sd


@pytest.mark.parametrize(
    ("site", "label"), [(["a"] * 40, list("xy") * 20), (list("ab") * 20, ["x"] * 40), (list("ab") * 4, list("xy") * 4)]
)
def test_one_site_or_one_class_or_too_few_patients_have_no_answer(site, label):
    assert site_predicts_label(labelled(site, label)) is None


def test_each_of_several_labels_is_asked_by_itself_where_it_is_known():
    site = ["a"] * 30 + ["b"] * 30
    given_away = np.repeat([1.0, 0.0], 30)
    half_known = np.where(np.arange(60) % 2 == 0, given_away, np.nan)
    unrelated = np.tile([1.0, 1.0, 0.0, 0.0, 0.0], 12)
    targets = pd.DataFrame({"all": given_away, "half": half_known, "none": unrelated, "one": 1.0, "never": np.nan})
    guesses = site_predicts_labels(labelled(site, "not looked at"), targets)
    assert (guesses["all"].value, guesses["all"].n) == (1, 60)
    assert (guesses["half"].value, guesses["half"].n) == (1, 30)
    assert guesses["none"].value < 0.6 and guesses["one"] is None and guesses["never"] is None
    mean = mean_over_labels(guesses)
    assert mean.value == pytest.approx((2 + guesses["none"].value) / 3)
    assert (mean.measure, mean.chance, mean.n) == ("AUC (mean of 3 of 5 labels)", 0.5, 60)
    assert mean_over_labels({"one": None}) is None


def test_cramers_v_is_bergsmas_and_agrees_with_scipys_in_large_samples():
    assert cramers_v(np.array([[30, 10], [10, 30]])) == pytest.approx(0.490290, abs=1e-6)  # by hand: chi2 = 20
    assert cramers_v(np.array([[20, 20], [30, 30]])) == 0
    large = np.array([[400, 100, 500], [300, 600, 200]]) * 100
    assert cramers_v(large) == pytest.approx(association(large, method="cramer"), abs=1e-4)
    assert cramers_v(np.eye(4, dtype=int)) is None


def test_scanners_of_different_brightness_are_told_apart():
    rng = np.random.default_rng(0)
    site = np.repeat(["a", "b", "c"], 20)
    level = np.repeat([100.0, 120.0, 140.0], 20)
    levels = level[:, None] + rng.normal(0, 2, (60, 3))
    expected = Guess("balanced accuracy", 1.0, pytest.approx(1 / 3), 60)
    assert intensity_predicts_site(labelled(site, ""), levels) == expected
    assert intensity_predicts_site(labelled(site, ""), 1e-6 * levels) == expected


def test_recognising_a_patient_is_not_recognising_a_site():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(16), 20)
    own_look = rng.normal(size=(16, 40))[people]
    cases = labelled(np.array(["a", "b"])[people % 2], "", [f"p{p}" for p in people])
    assert intensity_predicts_site(cases, own_look).value < 0.75
    alone = cases.assign(patient=[f"p{n}" for n in range(len(cases))])
    assert intensity_predicts_site(alone, own_look).value == 1


def test_site_with_few_patients_is_left_out_and_one_site_has_no_answer():
    cases = labelled(["a"] * 10 + ["b"] * 5 + ["c"] * 4, "")
    levels = np.arange(19.0)[:, None]
    assert intensity_predicts_site(cases, levels).n == 15
    assert intensity_predicts_site(cases[cases["site"] != "b"], levels[cases["site"] != "b"]) is None


@pytest.mark.parametrize("effect", [0.0, 0.4])
def test_folds_of_many_patients_give_what_balanced_folds_give(monkeypatch, effect):
    draws, n = np.random.default_rng(0), 2 * MANY
    ill = draws.integers(0, 2, n)
    site = np.where(draws.random(n) < effect, ill, draws.integers(0, 2, n)).astype(str)
    cases = labelled([f"s{one}" for one in site], np.where(ill, "x", "y"), [f"p{row // 2:05d}" for row in range(n)])
    level = draws.normal(np.where(site == "1", effect, 0.0))[:, None]
    hashed = site_predicts_label(cases), intensity_predicts_site(cases, level)
    monkeypatch.setattr("pipeline.stages.split.shortcuts.is_large", lambda patients: False)
    balanced = site_predicts_label(cases), intensity_predicts_site(cases, level)
    for one, other in zip(hashed, balanced, strict=True):
        assert one.n == other.n == n and one.value == pytest.approx(other.value, abs=0.02)
    assert abs(hashed[0].value - 0.5 - effect / 2) < 0.02
