import json

import numpy as np
import pytest
from scipy.special import expit

from pipeline.bundle.decision import Rule, decide, fit_rules, sets_at_site, with_sets
from pipeline.bundle.limits import LOW_CONFIDENCE, OUT_OF_DISTRIBUTION, OperatingLimits, ScanOutput
from pipeline.imaging.preparation.placement import Prepared
from pipeline.metrics.conformal import conformal_thresholds, sets_of
from pipeline.metrics.ood import energy, fit_gaussians, fit_ood_detector, quantiles_of, scores_of
from pipeline.metrics.questions import both_ways


def predictions(n=300, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    yes = 1 / (1 + np.exp(-(2.0 * (2 * truth - 1) + 2 * rng.normal(size=n))))
    return np.stack([1 - yes, yes], axis=1), truth, np.arange(n).astype(str)


def test_sets_are_those_of_conformal_and_cover_each_class_as_promised():
    [rule] = fit_rules(*predictions(), ["well", "ill"], coverage=0.9, answered=0.9)
    new, truth, _ = predictions(4000, seed=1)
    held = np.array([["well", "ill"][label] in rule.members(one) for one, label in zip(new, truth, strict=True)])
    assert all(0.86 < held[truth == label].mean() < 0.94 for label in (0, 1))
    same = conformal_thresholds(*predictions(), 0.1, by="class")
    for one, marks in zip(new[:50], sets_of(new[:50], same), strict=True):
        assert rule.members(one) == [name for name, mark in zip(["well", "ill"], marks, strict=True) if mark]


def test_a_class_of_too_few_patients_shares_its_threshold_with_the_others():
    probabilities, truth, patients = predictions(60)
    few = np.flatnonzero(truth == 1)[:8]
    kept = np.sort(np.append(np.flatnonzero(truth == 0), few))
    [rule] = fit_rules(probabilities[kept], truth[kept], patients[kept], ["well", "ill"], coverage=0.9, answered=0.9)
    assert rule.sets.by is None and rule.sets.groups["all"].n == len(kept)


def test_the_requested_share_of_cases_is_answered():
    probabilities, truth, patients = predictions()
    [rule] = fit_rules(probabilities, truth, patients, ["well", "ill"], coverage=0.9, answered=0.8)
    unsure = [bool(decide([rule], one, ["well", "ill"])[1]) for one in probabilities]
    assert np.mean(unsure) == pytest.approx(0.2, abs=0.005)
    assert all(one.max() < rule.min_confidence for one, low in zip(probabilities, unsure, strict=True) if low)


def test_each_label_of_a_multilabel_task_has_a_set_and_a_limit():
    (first, one, patients), (second, two, _) = predictions(), predictions(seed=2)
    labels = np.stack([one, two], axis=1).astype(float)
    labels[:10, 1] = np.nan
    rules = fit_rules(
        np.stack([first[:, 1], second[:, 1]], axis=1), labels, patients, ["a", "b"], coverage=0.9, answered=0.9
    )
    assert [rule.label for rule in rules] == ["a", "b"]
    said, unsure = decide(rules, np.array([0.999, 0.5]), ["a", "b"])
    assert said == "a: present; b: absent or present" and len(unsure) == 1 and unsure[0].startswith("b: 0.500 is below")
    assert [Rule.from_json(json.loads(json.dumps(rule.as_json()))) for rule in rules] == rules


@pytest.fixture
def limits():
    rng = np.random.default_rng(0)
    features, names = rng.normal(size=(80, 6)), np.array(["well", "ill"] * 40)
    sites = np.array(["north"] * 40 + ["south"] * 40)
    features[40:, 3] += 8
    gaussian, of_sites = fit_gaussians(features, names), fit_gaussians(features, sites)
    logits = rng.normal(size=(80, 2)) * 3
    appearances = rng.normal(size=(80, 4))
    of_appearances = fit_gaussians(appearances, np.full(80, "all"))
    apart, odd = (
        one.distances(rows).min(axis=1) for one, rows in ((gaussian, features), (of_appearances, appearances))
    )
    detector = fit_ood_detector(scores_of(energy(logits), apart, odd), np.arange(80).astype(str), 0.05)
    usual = quantiles_of(of_sites.distances(features).min(axis=1))
    rules = fit_rules(*predictions(), ["well", "ill"], coverage=0.9, answered=0.9)
    return OperatingLimits(
        rules, [gaussian, gaussian], [of_sites, of_sites], [of_appearances, of_appearances], detector, usual, False
    )


def evaluated(limits, features, probability, logits=(3.0, -3.0), appearances=(0.5, 0.5, 0.5, 0.5)):
    one, prediction = np.asarray(features, dtype=float), np.array([1 - probability, probability])
    output = ScanOutput(
        np.array(logits), [one, one], np.array(appearances), Prepared(np.zeros((1, 8, 8), np.uint8), None)
    )
    return limits.decide(output, prediction, ["well", "ill"])


def test_a_usual_scan_with_a_confident_prediction_is_answered(limits):
    decision = evaluated(limits, [0, 0, 0, 8, 0, 0], 0.99)
    assert (decision.set, decision.abstains, decision.reason, decision.nearest_site) == ("ill", (), "", "south")
    assert evaluated(limits, [0, 0, 0, 0, 0, 0], 0.01).nearest_site == "north"


def test_every_reason_for_abstaining_is_named_with_its_numbers(limits):
    assert evaluated(limits, [0] * 6, 0.5).abstains == (LOW_CONFIDENCE,)
    assert evaluated(limits, [0, 90, 0, 0, 0, 0], 0.99).abstains == (OUT_OF_DISTRIBUTION,)
    assert evaluated(limits, [0, 0, 0, 8, 0, 0], 0.99, appearances=(0, 90, 0, 0)).abstains == (OUT_OF_DISTRIBUTION,)
    decision = evaluated(limits, [0, 90, 0, 0, 0, 0], 0.5)
    assert decision.abstains == (OUT_OF_DISTRIBUTION, LOW_CONFIDENCE) and decision.site_share == 0
    assert (
        f"(score {decision.ood_score:.2f}, limit {limits.detector.threshold:.2f}); the confidence is too low (0.500"
        in decision.reason
    )


def test_limits_survive_json_and_without_sites_none_is_nearest(limits):
    again = OperatingLimits.from_json(json.loads(json.dumps(limits.as_json())))
    assert evaluated(again, [1, 2, 3, 4, 5, 6], 0.7) == evaluated(limits, [1, 2, 3, 4, 5, 6], 0.7)
    without = OperatingLimits(limits.rules, limits.gaussians, [], limits.appearances, limits.detector, (), False)
    assert evaluated(without, [0] * 6, 0.9).nearest_site == "" and evaluated(without, [0] * 6, 0.9).site_share is None


def test_sets_refitted_at_a_site_keep_the_promise_there():
    rng, kept, broken = np.random.default_rng(0), [], []
    [rule] = fit_rules(*predictions(), ["well", "ill"], coverage=0.9, answered=0.9)
    for _ in range(200):
        labels = rng.integers(0, 2, 60)
        prediction = expit(rng.normal((2 * labels - 1) * 0.3, 3))  # as sure as at home, and hardly better than chance
        both, patients = both_ways(prediction), np.arange(60).astype(str)
        sets = sets_at_site(rule, both[:40], labels[:40], patients[:40], classes=["well", "ill"])
        new = np.arange(40, 60)
        kept.append(sets_of(both[new], sets)[np.arange(20), labels[new]].mean())
        broken.append(sets_of(both[new], rule.sets)[np.arange(20), labels[new]].mean())
    assert np.mean(broken) < 0.8 and np.mean(kept) == pytest.approx(0.91, abs=0.03)
    assert sets_at_site(rule, both[:8], labels[:8], patients[:8], classes=["well", "ill"]) is None


def test_sets_of_a_label_are_refitted_where_it_is_known():
    probabilities, truth, patients = predictions(60)
    labels = np.stack([truth.astype(float), np.where(np.arange(60) < 50, truth, np.nan)], axis=1)
    both = np.stack([probabilities[:, 1], probabilities[:, 1]], axis=1)
    rules = fit_rules(both, labels, patients, ["a", "b"], coverage=0.9, answered=0.9)
    found = {one.label: sets_at_site(one, both, labels, patients, classes=["a", "b"]) for one in rules}
    assert found["b"] == conformal_thresholds(probabilities[:50], truth[:50], patients[:50], 0.1, by="class")
    changed = with_sets(rules, {"b": found["b"]})
    assert changed[0] == rules[0] and changed[1].sets == found["b"]
