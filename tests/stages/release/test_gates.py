from dataclasses import replace

import pandas as pd
import pytest

from pipeline.stages.release.gates import check_gates
from tests.stages.release.good_model import GOOD, LIMITS, NORTH, PROBE, baseline, covered, groups, metrics

OTHER = PROBE | {"training": "lp_ft"}
AGE_AND_SEX = ("better than without images", 0.28, "0.900 against 0.600 of age, sex alone: 0.000 (-0.280 to 0.270)")
NONE = (None, None, None)
LABELS = {"class": ["oedema", "mass"], "n_known": [300, 130], "events": [200, 40]}


def test_a_good_model_passes_every_gate_and_is_short_of_nothing():
    found = check_gates(GOOD, LIMITS)
    assert len(found) == 16 and {(gate.passed, gate.short_by) for gate in found} == {(True, 0.0)}


@pytest.mark.parametrize(
    ("changes", "gate", "short_by", "told"),
    [
        ({"internal": metrics(auc=(0.9, 0.6, 0.95))}, "discrimination", 0.1, "0.900 (0.600 to 0.950)"),
        ({"internal": metrics(calibration_slope=(0.5, 0.3, 0.8))}, "calibration slope", 0.2, "(0.300 to 0.800)"),
        ({"internal": metrics(calibration_slope=(1.5, 0.9, 2.5))}, "calibration slope", 0.5, "within 0.5 to 2"),
        (
            {"internal": metrics(auc=(0.9, 0.6, 0.95))},
            "discrimination",
            0.1,
            "patients would suffice if the value stays",
        ),
        ({"internal": metrics(auc=(0.65, 0.6, 0.7))}, "discrimination", 0.1, "more patients would not suffice"),
        ({"internal": metrics(calibration_slope=(1.0, 0.5, 4.0))}, "calibration slope", 2.0, "about 1,080 patients"),
        ({"internal": metrics(calibration_slope=NONE)}, "calibration slope", None, "not computable"),
        ({"internal": metrics(calibration_slope=(None, 3.1, None))}, "calibration slope", None, "(from 3.100)"),
        ({"test": metrics(auc=(0.75, 0.6, 0.9))}, "external drop", 0.05, "0.900 (0.800 to 0.950) internally, 0.750"),
        ({"test": metrics(auc=NONE)}, "external drop", None, "not computable"),
        ({"baselines": [baseline("site", (0.3, 0.2, 0.4)), baseline("age, sex", (0.0, -0.28, 0.27))]}, *AGE_AND_SEX),
        ({"baselines": []}, "better than without images", None, "could be computed"),
        ({"coverage": [*GOOD.coverage, covered(0.67, 0.47, 0.82)]}, "prediction sets", 0.08, "0.670 (0.470 to 0.820)"),
        ({"coverage": GOOD.coverage[:1]}, "prediction sets", None, "too few patients"),
        ({"answered": GOOD.answered | {"answered": 0, "lower": 0.0}}, "answered", 0.5, "0 of 300 scans"),
        ({"patients_known": False}, "patients known", 1, "each image counts as one patient"),
        ({"recipes": GOOD.recipes | {"final": OTHER}}, "recipe evaluated", 2, "it is lp_ft, theirs probe (3)"),
        ({"recipes": {"0": PROBE}}, "recipe evaluated", None, "no record"),
        ({"classes": pd.DataFrame({"class": ["a", "b", "c"], "n": [150, 90, 120]})}, "events", 10, "'b'"),
        ({"classes": pd.DataFrame(LABELS)}, "events", 60, "rarest outcome, 'mass'"),
        ({"classes": pd.DataFrame(LABELS | {"events": [200, 101]})}, "events", 71, "'mass'"),
        ({"subgroups": groups(NORTH, (*NORTH[:2], 0.55, 0.4, 0.7, *NORTH[5:]))}, "worst subgroup", 0.05, "site north"),
        (
            {"subgroups": GOOD.subgroups[1:]},
            "worst subgroup",
            None,
            "no group is large enough; too small to evaluate: 1",
        ),
        ({"subgroups": groups((*NORTH[:5], True, *NORTH[6:]))}, "worst subgroup", None, "no group"),
        ({"subgroups": groups((*NORTH[:6], "top label", NORTH[7]))}, "worst subgroup", None, "no group"),
        (
            {"subgroups": groups(("site", "not given", *NORTH[2:]))},
            "worst subgroup",
            None,
            "there are no groups",
        ),
        ({"statements": {"intended_use": "", "ethics": "number 5"}}, "card", 1, "card.yaml: intended_use"),
        ({"leaks": 2, "duplicates": 1}, "no leak", 3, "boundary: 2; pairs of duplicate images across it: 1"),
        (
            {"stamps": {"simulated": False, "evaluated_images_seen": True}},
            "evaluated images unseen",
            1,
            "must not be used",
        ),
        ({"stamps": {"simulated": True, "evaluated_images_seen": False}}, "real patients", 1, "stays a candidate"),
        ({"neighbours": 54}, "features of cases", 54, "features of 54 training cases"),
        (
            {"licences": {"MIT": False, "cc-by-nc-4.0": True}},
            "licence of weights",
            1,
            "MIT; cc-by-nc-4.0;",
        ),
    ],
)
def test_each_fault_fails_its_own_gate_and_says_by_how_much(changes, gate, short_by, told):
    [failed] = [found for found in check_gates(replace(GOOD, **changes), LIMITS) if not found.passed]
    assert (failed.name, failed.short_by) == (gate, short_by) and told in failed.detail
    assert failed.verdict.startswith(("Failed: not evaluated", "Failed: unstable") if short_by is None else "Failed: ")


def test_without_an_open_test_set_its_gates_are_not_evaluated():
    found = check_gates(replace(GOOD, test=None, answered=None, coverage=GOOD.coverage[1:]), LIMITS)
    failed = {gate.name: gate for gate in found if not gate.passed}
    assert set(failed) == {"external drop", "better than without images", "answered"}
    assert all("never evaluated" in gate.detail and gate.short_by is None for gate in failed.values())


def test_a_model_without_an_auc_fails_where_it_is_asked_for():
    found = {gate.name: gate for gate in check_gates(replace(GOOD, internal=metrics(auc=NONE)), LIMITS)}
    assert {name for name in found if not found[name].passed} == {"discrimination", "external drop"}
    assert found["discrimination"].short_by is found["external drop"].short_by is None


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_is_none_is_not_asked_for_and_the_others_are(name):
    everything = [gate.name for gate in check_gates(GOOD, LIMITS)]
    fewer = [gate.name for gate in check_gates(GOOD, LIMITS | {name: None})]
    assert len(fewer) == len(everything) - 1 and set(fewer) < set(everything)
    assert fewer[-5:-3] == ["no leak", "evaluated images unseen"]
    assert fewer[-3:] == ["real patients", "features of cases", "licence of weights"]


def test_features_of_cases_may_leave_with_a_model_once_that_is_agreed():
    last = check_gates(replace(GOOD, neighbours=54, features_agreed=True), LIMITS)[-2]
    assert last.passed and "54 training cases" in last.detail and "release.include_features allows" in last.verdict


def test_a_licence_without_commercial_use_passes_once_that_is_accepted():
    last = check_gates(replace(GOOD, licences={"cc-by-nc-4.0": True}, non_commercial=True), LIMITS)[-1]
    assert last.passed and "cc-by-nc-4.0" in last.detail and "release.non_commercial accepts" in last.verdict


def test_passed_and_failed_gates_have_their_own_words():
    passed = {gate.name: gate.verdict for gate in check_gates(GOOD, LIMITS)}
    faults = {"internal": metrics(auc=(0.9, 0.66, 0.95), calibration_slope=(1.1, 0.7, 4.96)), "leaks": 2}
    faults |= {"statements": {"intended_use": "", "ethics": ""}, "patients_known": False}
    faults |= {"stamps": {"simulated": True, "evaluated_images_seen": False}}
    faults |= {"classes": pd.DataFrame({"class": ["well", "ill"], "n": [32, 32]})}
    failed = {gate.name: gate.verdict for gate in check_gates(replace(GOOD, **faults), LIMITS) if not gate.passed}
    assert failed == {
        "discrimination": "Failed: lower limit 0.660, required 0.7",
        "calibration slope": "Failed: upper limit 4.96, allowed 2.0",
        "events": "Failed: 32 events, 100 required",
        "patients known": "Failed: patients are not known",
        "card": "Failed: 2 of 2 required fields are empty",
        "no leak": "Failed: 2 leaks, none allowed",
        "real patients": "Failed: the scans are simulated",
    }
    assert passed["real patients"] == "Passed: no scan is simulated"
    assert passed["patients known"] == "Passed: patients are known"
    assert passed["recipe evaluated"] == "Passed: 3 of 3 evaluated folds have the released recipe"
    assert passed["calibration slope"] == "Passed: 0.80 to 1.40 lies within 0.5 to 2"
    assert all(verdict.startswith("Passed: ") for verdict in passed.values())


def test_an_ensemble_consists_of_the_folds_that_were_evaluated():
    recipes = {"0": PROBE, "1": OTHER}
    found = check_gates(replace(GOOD, recipes=recipes, members=["0", "1"]), LIMITS)
    assert all(gate.passed for gate in found)


def test_half_of_the_folds_are_not_most_of_them():
    recipes = {"0": PROBE, "1": OTHER, "final": PROBE}
    [failed] = [gate for gate in check_gates(replace(GOOD, recipes=recipes), LIMITS) if not gate.passed]
    assert failed.verdict == "Failed: 1 of 2 evaluated folds have the released recipe" and failed.short_by == 1


def test_a_limit_that_is_just_met_is_met():
    limits = LIMITS | {"min_auc_lower": 0.8, "slope": (0.8, 1.4), "min_events": 120, "min_subgroup_auc": 0.85}
    found = check_gates(replace(GOOD, test=metrics(auc=(0.8, 0.7, 0.9))), limits)
    assert all(gate.passed for gate in found)
