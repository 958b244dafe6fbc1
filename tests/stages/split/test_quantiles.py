"""Folds of numbers: quantiles of patients, and how well the site alone predicts a number."""

import numpy as np
import pandas as pd
import pytest

from pipeline.stages.split.partition import grouped_folds, rare_classes
from pipeline.stages.split.quantiles import EVENT, NUMBER, quantiles_of
from pipeline.stages.split.shortcuts import site_predicts_number, site_predicts_time


def cases_of(numbers, images=1, **columns):
    count = len(numbers)
    table = pd.DataFrame({"patient": [f"p{n:03d}" for n in range(count)], NUMBER: numbers, **columns})
    table = table.loc[table.index.repeat(images)].reset_index(drop=True)
    return table.assign(label=table[NUMBER].astype(str), side="development")


def test_each_quantile_has_as_many_patients_however_skewed_the_numbers():
    cases = cases_of(np.random.default_rng(0).exponential(size=50) ** 3, images=2)
    counts = cases.groupby(quantiles_of(cases, 5))["patient"].nunique()
    assert len(counts) == 5 and set(counts) == {10}


def test_few_patients_have_fewer_quantiles_and_cases_without_number_none():
    cases = cases_of([1.0, 2.0, 3.0, np.nan])
    assert quantiles_of(cases, 3).tolist() == ["quantile 1 of 1"] * 3 + [""]


def test_folds_hold_every_quantile_and_no_patient_twice():
    cases = cases_of(np.random.default_rng(1).normal(size=60), images=2)
    fold, quantile = grouped_folds(cases, 5, seed=0), quantiles_of(cases, 5)
    assert (pd.crosstab(fold, quantile) > 0).all(axis=None)
    assert (pd.Series(fold).groupby(cases["patient"]).nunique() == 1).all()


def test_fewer_patients_than_folds_are_refused_without_a_class():
    cases = cases_of([1.0, 2.0])
    assert rare_classes(cases, 3) == {"labelled cases": 2}
    with pytest.raises(ValueError, match="labelled cases has 2 patient"):
        grouped_folds(cases, 3, seed=0)


def test_a_site_with_other_numbers_predicts_them():
    rng = np.random.default_rng(2)
    site = np.repeat(["a", "b"], 30)
    apart = cases_of(np.where(site == "a", 10.0, 20.0) + rng.normal(size=60), site=site)
    alike = cases_of(rng.normal(size=60), site=site)
    assert site_predicts_number(apart).value > 0.9 and site_predicts_number(alike).value < 0.1
    assert site_predicts_number(alike.assign(site="a")) is None


def test_folds_of_times_hold_events_and_censored_patients_of_all_times():
    rng = np.random.default_rng(3)
    cases = cases_of(rng.exponential(size=80), images=2)
    cases[EVENT] = (cases["patient"].str[1:].astype(int) % 4 == 0).to_numpy()
    stratum = quantiles_of(cases, 4)
    assert set(stratum.str.split(",").str[0]) == {"event", "censored"} and stratum.nunique() == 10
    fold = grouped_folds(cases, 4, seed=0)
    counts = cases[cases[EVENT]].groupby(fold[cases[EVENT]])["patient"].nunique()
    assert counts.tolist() == [5, 5, 5, 5]


def test_fewer_events_than_folds_are_refused():
    cases = cases_of(np.arange(1.0, 21.0)).assign(**{EVENT: [True] * 2 + [False] * 18})
    with pytest.raises(ValueError, match="the event has 2 patient"):
        grouped_folds(cases, 3, seed=0)


def test_a_site_with_more_frequent_events_predicts_them():
    rng = np.random.default_rng(4)
    site = np.repeat(["a", "b"], 60)
    apart = cases_of(rng.exponential(np.where(site == "a", 1.0, 8.0)), site=site).assign(**{EVENT: True})
    alike = cases_of(rng.exponential(size=120), site=site).assign(**{EVENT: rng.random(120) < 0.6})
    assert site_predicts_time(apart).value > 0.6 and 0.3 < site_predicts_time(alike).value < 0.6
    assert site_predicts_time(alike.assign(site="a")) is None
