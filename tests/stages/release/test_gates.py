from dataclasses import replace

import pandas as pd
import pytest

from pipeline.stages.release.gates import GateInputs, check_gates

LIMITS = {
    "min_auc_lower": 0.7,
    "slope": (0.5, 2.0),
    "max_external_drop": 0.1,
    "min_events": 100,
    "min_subgroup_auc": 0.6,
    "card": ("intended_use", "ethics"),
}


def metrics(**changes):
    known = {
        "auc": {"value": 0.9, "lower": 0.8, "upper": 0.95},
        "calibration_slope": {"value": 1.1, "lower": 0.8, "upper": 1.4},
    }
    return known | {name: dict(zip(("value", "lower", "upper"), one, strict=True)) for name, one in changes.items()}


def groups(*rows):
    columns = ["column", "value", "auc", "auc_lower", "auc_upper", "too_few", "of", "scope"]
    return pd.DataFrame(rows, columns=columns)


NORTH = ("site", "north", 0.85, 0.75, 0.92, False, "ill", "internal_patients")
GOOD = GateInputs(
    internal=metrics(),
    test=metrics(auc=(0.85, 0.7, 0.95)),
    stamps={"simulated": False, "evaluated_images_seen": False},
    leaks=0,
    duplicates=0,
    classes=pd.DataFrame({"class": ["well", "ill"], "n": [150, 120]}),
    subgroups=groups(NORTH, ("sex", "F", None, None, None, True, "ill", "internal_patients")),
    statements={"intended_use": "on adults", "ethics": "number 5", "contact": ""},
    neighbours=0,
    features_agreed=False,
)
NONE = (None, None, None)
LABELS = {"class": ["oedema", "mass"], "n_known": [300, 130], "events": [200, 40]}


def test_a_good_model_passes_every_gate_and_is_short_of_nothing():
    found = check_gates(GOOD, LIMITS)
    assert len(found) == 10 and {(gate.passed, gate.short_by) for gate in found} == {(True, 0.0)}


@pytest.mark.parametrize(
    ("changes", "gate", "short_by", "told"),
    [
        ({"internal": metrics(auc=(0.9, 0.6, 0.95))}, "discrimination", 0.1, "0.900 (0.600 to 0.950)"),
        ({"internal": metrics(calibration_slope=(0.5, 0.3, 0.8))}, "calibration slope", 0.2, "(0.300 to 0.800)"),
        ({"internal": metrics(calibration_slope=(1.5, 0.9, 2.5))}, "calibration slope", 0.5, "within 0.5 to 2"),
        ({"internal": metrics(calibration_slope=NONE)}, "calibration slope", None, "not computable"),
        ({"test": metrics(auc=(0.75, 0.6, 0.9))}, "external drop", 0.05, "a drop of 0.150; at most 0.1"),
        ({"test": metrics(auc=NONE)}, "external drop", None, "not computable"),
        ({"test": None}, "external drop", None, "never evaluated"),
        ({"classes": pd.DataFrame({"class": ["a", "b", "c"], "n": [150, 90, 120]})}, "events", 10, "'b'"),
        ({"classes": pd.DataFrame(LABELS)}, "events", 60, "40 cases of the rarest outcome, 'mass'"),
        ({"classes": pd.DataFrame(LABELS | {"events": [200, 101]})}, "events", 71, "29 cases of the rarest"),
        ({"subgroups": groups(NORTH, (*NORTH[:2], 0.55, 0.4, 0.7, *NORTH[5:]))}, "worst subgroup", 0.05, "site north"),
        ({"subgroups": GOOD.subgroups[1:]}, "worst subgroup", None, "no group is large enough; 1 too small"),
        ({"subgroups": groups((*NORTH[:5], True, *NORTH[6:]))}, "worst subgroup", None, "no group"),
        ({"subgroups": groups((*NORTH[:6], "top label", NORTH[7]))}, "worst subgroup", None, "no group"),
        (
            {"subgroups": groups(("site", "not given", *NORTH[2:]))},
            "worst subgroup",
            None,
            "there are no groups",
        ),
        ({"statements": {"intended_use": "", "ethics": "number 5"}}, "card", 1, "empty in card.yaml: intended_use"),
        ({"leaks": 2, "duplicates": 1}, "no leak", 3, "boundary: 2; pairs of duplicate images across it: 1"),
        ({"stamps": {"simulated": False, "evaluated_images_seen": True}}, "evaluated images unseen", 1, "must not use"),
        ({"stamps": {"simulated": True, "evaluated_images_seen": False}}, "real patients", 1, "never validated"),
        ({"neighbours": 54}, "features of cases", 54, "features of 54 training cases"),
    ],
)
def test_each_fault_fails_its_own_gate_and_says_by_how_much(changes, gate, short_by, told):
    [failed] = [found for found in check_gates(replace(GOOD, **changes), LIMITS) if not found.passed]
    assert (failed.name, failed.short_by) == (gate, short_by) and told in failed.detail
    assert failed.verdict.startswith("FAILED: not evaluated" if short_by is None else "FAILED")


def test_a_model_without_an_auc_fails_where_it_is_asked_for():
    found = {gate.name: gate for gate in check_gates(replace(GOOD, internal=metrics(auc=NONE)), LIMITS)}
    assert {name for name in found if not found[name].passed} == {"discrimination", "external drop"}
    assert found["discrimination"].short_by is found["external drop"].short_by is None


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_is_none_is_not_asked_for_and_the_others_are(name):
    everything = [gate.name for gate in check_gates(GOOD, LIMITS)]
    fewer = [gate.name for gate in check_gates(GOOD, LIMITS | {name: None})]
    assert len(fewer) == len(everything) - 1 and set(fewer) < set(everything)
    assert fewer[-4:] == ["no leak", "evaluated images unseen", "real patients", "features of cases"]


def test_features_of_cases_may_leave_with_a_model_once_that_is_agreed():
    last = check_gates(replace(GOOD, neighbours=54, features_agreed=True), LIMITS)[-1]
    assert last.passed and "54 training cases" in last.detail and "release.include_features allows" in last.detail


def test_a_verdict_names_the_unit_and_a_question_of_yes_or_no_has_none():
    faults = {"internal": metrics(auc=(0.9, 0.66, 0.95)), "leaks": 2, "statements": {"intended_use": "", "ethics": ""}}
    stamps = {"simulated": True, "evaluated_images_seen": False}
    found = check_gates(replace(GOOD, stamps=stamps, **faults), LIMITS)
    failed = ["FAILED by 0.04 of AUC", "FAILED by 2 fields", "FAILED by 2 findings", "FAILED"]
    assert [gate.verdict for gate in found if not gate.passed] == failed


def test_a_limit_that_is_just_met_is_met():
    limits = LIMITS | {"min_auc_lower": 0.8, "slope": (0.8, 1.4), "min_events": 120, "min_subgroup_auc": 0.85}
    found = check_gates(replace(GOOD, test=metrics(auc=(0.8, 0.7, 0.9))), limits)
    assert all(gate.passed for gate in found)
