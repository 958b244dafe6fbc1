"""Gates and facts about a regression: which number decides, and what is told of it."""

from dataclasses import replace

import pytest

from pipeline.metrics.baseline import WITHIN
from pipeline.stages.release.gates import check_gates
from pipeline.stages.release.key_facts import key_facts, to_know
from pipeline.stages.release.number_facts import NUMBER_CHECKS
from pipeline.stages.release.number_gates import NUMBER_GATES
from tests.stages.release.good_model import GOOD, LIMITS, baseline

LIMITS_OF_NUMBER = LIMITS | {"min_r2_lower": 0.0}


def ends(value, lower, upper):
    return {"value": value, "lower": lower, "upper": upper}


def metrics(**changes):
    known = {
        "n": 300,
        "patients": 270,
        "r2": ends(0.8, 0.7, 0.9),
        "mae": ends(2.0, 1.8, 2.2),
        "calibration_slope": ends(1.0, 0.9, 1.1),
        "bias_slope": ends(-0.2, -0.3, -0.1),
        "coverage_of_patients": ends(0.9, 0.86, 0.93),
    }
    return known | changes


def against(name, difference):
    row = baseline(name, difference, scope="external")
    return row | {"model_mae": 2.0, "mae": 5.0}


def number(internal=None, test=None, **changes):
    known = {"baselines": [against("mean", (3.0, 2.5, 3.5)), against("site", (2.0, 1.5, 2.5))], "columns": ()}
    shown = replace(GOOD, internal=internal or metrics(), test=test or metrics(), promised=0.9, unit="ml", binary=False)
    return replace(shown, **(known | changes))


def verdicts(shown):
    return {gate.name: gate for gate in check_gates(shown, LIMITS_OF_NUMBER, NUMBER_GATES)}


def test_a_good_number_passes_every_gate_and_none_is_about_classes():
    found = verdicts(number())
    assert all(gate.passed for gate in found.values()), found
    assert not {"discrimination", "external drop", "events", "worst subgroup", "prediction sets"} & set(found)
    facts = key_facts(number(), LIMITS_OF_NUMBER, NUMBER_CHECKS)
    assert facts == [] and "regression to the mean" in to_know(facts, NUMBER_CHECKS)[0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("better than the mean", number(test=metrics(r2=ends(0.3, -0.1, 0.6)))),
        ("calibration slope", number(internal=metrics(calibration_slope=ends(2.4, 2.1, 2.7)))),
        ("patients", number(internal=metrics(patients=99))),
        ("better than without images", number(baselines=[against("site", (0.5, -0.1, 1.1))])),
        ("prediction intervals", number(test=metrics(coverage_of_patients=ends(0.8, 0.75, 0.85)))),
    ],
)
def test_a_gate_fails_by_the_limit_of_the_worse_set(name, shown):
    assert [gate.name for gate in verdicts(shown).values() if not gate.passed] == [name]


@pytest.mark.parametrize(("gain", "kinds"), [(-0.1, ["not better than without images"]), (0.2, [])])
def test_of_pooled_folds_the_mean_within_folds_decides(gain, kinds):
    pooled = against("site", (0.5, -0.2, 1.1)) | {"scope": "internal"}
    within = against("site", (0.5, gain, 1.1)) | {"scope": "internal", "over": WITHIN}
    shown = replace(number(baselines=[pooled, within]), test=None)
    found = [fact.kind for fact in key_facts(shown, LIMITS_OF_NUMBER, NUMBER_CHECKS)]
    assert [kind for kind in found if "images" in kind] == kinds


def test_a_closed_test_set_is_no_success():
    shown = replace(number(), test=None)
    assert not verdicts(shown)["better than without images"].passed and verdicts(shown)["better than the mean"].passed


@pytest.mark.parametrize(
    ("kind", "said", "shown"),
    [
        (
            "regression to the mean",
            "the slope of the error against the true number is -0.60",
            number(test=metrics(bias_slope=ends(-0.6, -0.7, -0.5))),
        ),
        ("prediction intervals", "0.90 is promised", number(test=metrics(coverage_of_patients=ends(0.7, 0.6, 0.8)))),
        ("not better than without images", "by site alone", number(baselines=[against("site", (0.5, -0.1, 1.1))])),
        ("too few patients", "12 patients on the external", number(test=metrics(patients=12))),
    ],
)
def test_what_limits_a_number_is_a_fact_with_its_numbers(kind, said, shown):
    (fact,) = key_facts(shown, LIMITS_OF_NUMBER, NUMBER_CHECKS)
    assert fact.kind == kind and said in fact.sentence
