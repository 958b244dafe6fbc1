"""Gates and facts about a survival model: which number decides, and what is told of it."""

from dataclasses import replace

import pytest

from pipeline.stages.release.gates import check_gates
from pipeline.stages.release.key_facts import key_facts, to_know
from pipeline.stages.release.time_facts import TIME_CHECKS
from pipeline.stages.release.time_gates import TIME_GATES
from tests.stages.release.good_model import GOOD, LIMITS, baseline

LIMITS_OF_TIME = LIMITS | {"min_c_lower": 0.5, "min_ipa_lower": 0.0}


def ends(value, lower, upper):
    return {"value": value, "lower": lower, "upper": upper}


def metrics(**changes):
    known = {
        **{"n": 300, "patients": 270, "events": 120},
        "c": ends(0.75, 0.7, 0.8),
        "ipa": ends(0.2, 0.1, 0.3),
        "calibration_slope": ends(1.0, 0.8, 1.3),
        "observed_expected": ends(1.0, 0.8, 1.2),
    }
    return known | changes


def against(name, difference):
    return baseline(name, difference, scope="external") | {"model_c": 0.75, "c": 0.6}


def model(internal=None, test=None, **changes):
    known = {"baselines": [against("Kaplan-Meier", (0.25, 0.2, 0.3)), against("site", (0.15, 0.1, 0.2))], "columns": ()}
    shown = replace(GOOD, internal=internal or metrics(), test=test or metrics(), unit="months", binary=False)
    return replace(shown, **(known | changes))


def verdicts(shown):
    return {gate.name: gate for gate in check_gates(shown, LIMITS_OF_TIME, TIME_GATES)}


def test_a_good_model_of_times_passes_every_gate_and_none_needs_classes():
    found = verdicts(model())
    assert all(gate.passed for gate in found.values()), found
    assert not {"external drop", "worst subgroup", "prediction sets"} & set(found)
    facts = key_facts(model(), LIMITS_OF_TIME, TIME_CHECKS)
    assert facts == [] and "another frequency of the event" in to_know(facts, TIME_CHECKS)[0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("discrimination", model(test=metrics(c=ends(0.6, 0.48, 0.7)))),
        ("discrimination", model(internal=metrics(c=ends(0.6, 0.48, 0.7)))),
        ("better than Kaplan-Meier", model(test=metrics(ipa=ends(0.1, -0.05, 0.2)))),
        ("calibration slope", model(internal=metrics(calibration_slope=ends(2.4, 2.1, 2.7)))),
        ("events", model(internal=metrics(events=99))),
        ("better than without images", model(baselines=[against("site", (0.05, -0.1, 0.2))])),
    ],
)
def test_a_gate_of_times_fails_by_the_limit_of_the_worse_set(name, shown):
    assert [gate.name for gate in verdicts(shown).values() if not gate.passed] == [name]


def test_a_closed_test_set_is_no_success_for_times():
    found = verdicts(replace(model(), test=None))
    assert not found["better than without images"].passed and found["discrimination"].passed


@pytest.mark.parametrize(
    ("kind", "said", "shown"),
    [
        ("too few events", "12 patients with the event on the external", model(test=metrics(events=12))),
        ("not better than without images", "by site alone", model(baselines=[against("site", (0.05, -0.1, 0.2))])),
        (
            "not better than the same risk for everybody",
            "index of prediction accuracy 0.10",
            model(test=metrics(ipa=ends(0.1, -0.1, 0.2))),
        ),
        (
            "another frequency of the event",
            "more frequent than predicted: observed by expected events 2.00",
            model(test=metrics(observed_expected=ends(2.0, 1.5, 2.5))),
        ),
    ],
)
def test_what_limits_a_model_of_times_is_a_fact_with_its_numbers(kind, said, shown):
    (fact,) = key_facts(shown, LIMITS_OF_TIME, TIME_CHECKS)
    assert fact.kind == kind and said in fact.sentence
