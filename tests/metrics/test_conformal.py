"""Thresholds by hand and against the law of split conformal coverage; crepes and MAPIE: `tests/oracles`."""

import json

import numpy as np
import pytest
from scipy import stats

from pipeline.metrics import conformal
from pipeline.metrics.conformal import Thresholds, conformal_thresholds, sets_of
from pipeline.metrics.questions import both_ways


def drawn(n, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(n_classes), n)
    labels = (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return probabilities, labels, np.array([f"p{number}" for number in range(n)])


def with_scores(scores):
    """Two-class cases of class 0 whose scores, 1 - p(true), are these."""
    scores = np.asarray(scores, dtype=float)
    labels = np.zeros(len(scores), dtype=np.int64)
    return np.stack([1 - scores, scores], axis=1), labels, np.arange(len(scores)).astype(str)


def test_the_threshold_is_the_kth_lowest_score_with_k_of_n_plus_one():
    found = conformal_thresholds(*with_scores(np.random.default_rng(0).permutation(np.arange(1, 20)) / 20), 0.1)
    assert found.groups["all"].value == pytest.approx(18 / 20)  # k = ceil(20 * 0.9)
    assert found.groups["all"].n == 19


def test_coverage_with_99_patients_at_90_percent_follows_its_beta_law():
    rng = np.random.default_rng(1)
    scores = 1 - np.sqrt(
        rng.random((2000, 99))
    )  # of predictions uniform on (0, 1) and right: P(score <= s) = 1-(1-s)^2
    values = [conformal_thresholds(*with_scores(row), 0.1).groups["all"].value for row in scores]
    covered = 1 - (1 - np.array(values)) ** 2
    assert covered.mean() == pytest.approx(0.9, abs=0.002)
    assert covered.std() == pytest.approx(0.0299, abs=0.0015)
    assert stats.kstest(covered, stats.beta(90, 10).cdf).pvalue > 0.01


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.05, 19), (0.01, 99), (1 - 0.9, 9), (1 - 0.95, 19)])
def test_one_patient_below_the_least_number_nothing_is_promised(alpha, least):
    scores = np.linspace(0.1, 0.9, least)
    assert conformal_thresholds(*with_scores(scores), alpha).groups["all"].value == pytest.approx(0.9)
    assert conformal_thresholds(*with_scores(scores[:-1]), alpha).groups["all"].value is None
    assert conformal.rank_of(least, alpha) == least < conformal.rank_of(least - 1, alpha) + 1


def test_a_patient_counts_once_by_its_worst_image():
    probabilities, labels, patients = with_scores(np.tile(np.linspace(0.1, 0.9, 9), 2) - np.repeat([0.05, 0], 9))
    once = conformal_thresholds(probabilities[9:], labels[9:], patients[:9], 0.1)
    assert conformal_thresholds(probabilities, labels, np.tile(patients[:9], 2), 0.1) == once
    assert once.groups["all"].n == 9


def test_all_images_of_a_new_patient_are_covered_as_often_as_guaranteed():
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(400):
        means = rng.normal(size=(40, 1))
        scores = 1 / (1 + np.exp(-(means + rng.normal(size=(40, 4)))))
        probabilities, labels, _ = with_scores(scores[:39].ravel())
        found = conformal_thresholds(probabilities, labels, np.repeat(np.arange(39), 4).astype(str), 0.2)
        hits.append(sets_of(with_scores(scores[39])[0], found)[:, 0].all())
    assert np.mean(hits) == pytest.approx(0.8, abs=0.06)


def test_thresholds_by_class_cover_a_rare_class_and_a_common_one_does_not():
    rng = np.random.default_rng(3)
    labels = (np.arange(4000) % 10 == 0).astype(np.int64)
    risk = 1 / (1 + np.exp(-(rng.normal(size=4000) + 2 * labels - 3)))
    probabilities, patients = np.stack([1 - risk, risk], axis=1), np.arange(4000).astype(str)
    half, rare = slice(0, 2000), labels[2000:] == 1
    shares = []
    for by in (None, "class"):
        found = conformal_thresholds(probabilities[half], labels[half], patients[half], 0.1, by=by)
        shares.append(sets_of(probabilities[2000:], found)[rare, 1].mean())
    assert shares[0] < 0.6
    assert shares[1] == pytest.approx(0.9, abs=0.05)


def test_thresholds_by_site_are_those_of_each_site_alone():
    probabilities, labels, patients = drawn(80)
    sites = np.array(["a", "b"])[np.arange(80) % 2]
    both = conformal_thresholds(probabilities, labels, patients, 0.1, by="site", sites=sites)
    for site in ("a", "b"):
        there = sites == site
        alone = conformal_thresholds(probabilities[there], labels[there], patients[there], 0.1)
        assert both.groups[site] == alone.groups["all"]
        assert (sets_of(probabilities, both, sites)[there] == sets_of(probabilities[there], alone)).all()


def test_a_class_that_nothing_is_known_of_is_never_ruled_out():
    probabilities, labels, patients = drawn(60)
    keep = labels != 2
    found = conformal_thresholds(probabilities[keep], labels[keep], patients[keep], 0.1, by="class")
    sets = sets_of(probabilities, found)
    assert found.groups["2"] == conformal.NO_ONE
    assert sets[:, 2].all()
    assert not sets[:, 0].all()


def test_the_sets_of_an_unknown_site_are_full():
    probabilities, labels, patients = drawn(60)
    found = conformal_thresholds(probabilities, labels, patients, 0.1, by="site", sites=np.full(60, "a"))
    elsewhere = np.array(["a", "new"])[np.arange(60) % 2]
    sets = sets_of(probabilities, found, elsewhere)
    assert sets[1::2].all()
    assert not sets[::2].all()


def test_thresholds_follow_permutations_of_cases_and_classes():
    probabilities, labels, patients = drawn(50)
    order, classes = np.random.default_rng(4).permutation(50), np.array([2, 0, 1])
    for by in (None, "class"):
        found = conformal_thresholds(probabilities, labels, patients, 0.2, by=by)
        assert conformal_thresholds(probabilities[order], labels[order], patients[order], 0.2, by=by) == found
        renamed = conformal_thresholds(probabilities[:, classes], np.argsort(classes)[labels], patients, 0.2, by=by)
        sets = sets_of(probabilities[:, classes], renamed)
        assert (sets == sets_of(probabilities, found)[:, classes]).mean() > 0.99  # rows sum to one to the last digit


def test_a_label_that_stands_by_itself_is_absent_present_both_or_neither():
    prediction = np.linspace(0.01, 0.99, 99)
    events = prediction > 0.5
    probabilities = both_ways(prediction)
    found = conformal_thresholds(probabilities, events.astype(np.int64), np.arange(99).astype(str), 0.1, by="class")
    sets = sets_of(both_ways(np.array([0.02, 0.98, 0.5])), found)
    assert sets.tolist() == [[True, False], [False, True], [False, False]]


def test_thresholds_come_back_from_json():
    found = conformal_thresholds(*drawn(40), 0.05, by="class")
    assert found.groups["0"].n + found.groups["1"].n + found.groups["2"].n == 40
    assert Thresholds.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_what_makes_no_promise_is_refused():
    probabilities, labels, patients = drawn(40)
    with pytest.raises(ValueError, match="alpha is 0"):
        conformal_thresholds(probabilities, labels, patients, 0.0)
    with pytest.raises(ValueError, match="site of every case"):
        conformal_thresholds(probabilities, labels, patients, 0.1, by="site")
    with pytest.raises(ValueError, match="not finite"):
        conformal_thresholds(np.where(np.arange(40)[:, None] == 3, np.nan, probabilities), labels, patients, 0.1)
    with pytest.raises(ValueError, match="sum to one"):
        sets_of(probabilities / 2, conformal_thresholds(probabilities, labels, patients, 0.1))
