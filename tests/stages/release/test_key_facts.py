"""Key facts on plain tables: each fault gives its own sentence with numbers, n and interval, the most serious first."""

from dataclasses import replace

import pandas as pd
import pytest

from pipeline.stages.release.key_facts import CHECKS, key_facts, to_know
from tests.stages.release.good_model import (
    GOOD,
    LIMITS,
    PROBE,
    baseline,
    covered,
    decision,
    difference,
    metrics,
)

FEW = {"n": 10, "patients": 10, "events": 3}
OTHER = {"training": "lp_ft", "adaptation": "adabn", "encoder": "tiny"}
WITHHELD = {"scans": 29, "answered": 0, "patients": 24, "patients_answered": 0, "lower": 0.0, "upper": 0.14}
SITE = baseline("site", (0.02, -0.03, 0.08), auc=0.88, scope="internal_patients", over="mean of folds")
POOLED = baseline("site", (0.5, 0.4, 0.6), auc=0.4, scope="internal_patients")


def facts_of(**changes):
    return key_facts(replace(GOOD, **changes), LIMITS)


def test_few_patients_who_all_get_an_answer_are_not_called_withheld():
    all_answered = {"scans": 3, "answered": 3, "patients": 3, "patients_answered": 3, "lower": 0.44, "upper": 1.0}
    assert facts_of(answered=all_answered) == []


def test_a_good_model_has_no_fact_and_the_checks_are_named():
    assert facts_of() == []
    [said] = to_know([])
    assert said.startswith("No serious finding. These checks were made: simulated scans, ")
    assert all(kind in said for kind in CHECKS)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"stamps": GOOD.stamps | {"simulated": True}}, "simulated scans", "says anything about patients"),
        (
            {"stamps": GOOD.stamps | {"evaluated_images_seen": True}},
            "evaluated images seen",
            "used the evaluated images without their labels",
        ),
        ({"answered": WITHHELD}, "no answer on the test set", "29 of 29 scans on the external test set"),
        ({"answered": WITHHELD}, "no answer on the test set", "answers 0 of 24 patients (0.00 to 0.14)"),
        ({"answered": WITHHELD}, "no answer on the test set", "the AUC of 0.85 there includes the withheld answers"),
        (
            {"answered": WITHHELD | {"answered": 9, "patients_answered": 8, "lower": 0.18, "upper": 0.53}},
            "few answers on the test set",
            "20 of 29 scans on the external test set and answers 8 of 24 patients (0.18 to 0.53)",
        ),
        ({"leaks": 2, "duplicates": 1}, "leak", "3 patients or images are in both development and test set"),
        ({"licences": {"cc-by-nc-4.0": True}}, "licence of weights", "weights (cc-by-nc-4.0) forbids commercial use"),
        ({"patients_known": False}, "patients not known", "each of the 270 images of internal validation counts"),
        (
            {"test": metrics(auc=(0.9, 0.67, 1.0)) | FEW},
            "too few patients",
            "any claim: 10 patients, 3 events on the external test set, AUC 0.90 (0.67 to 1.00).",
        ),
        (
            {"baselines": [baseline("site", (0.4, 0.3, 0.5)), baseline("site, age, sex", (-0.003, -0.28, 0.27), 0.9)]},
            "not better than without images",
            "On the external test set the model is not shown to be better than site, age and sex alone: AUC 0.90 "
            "against 0.90, difference 0.00 (-0.28 to 0.27), 270 patients, 120 events",
        ),
        ({"baselines": [baseline("age", (-0.2, -0.3, -0.1))]}, "not better than without images", "worse than age"),
        (
            {"coverage": [covered(0.67, 0.47, 0.82), GOOD.coverage[1]]},
            "prediction sets",
            "on the external test set: they contain the true answer for a share of 0.67 (0.47 to 0.82) of 270 patients",
        ),
        (
            {"coverage": [covered(0.95, 0.9, 0.98), covered(0.3, 0.1, 0.8) | {"of": "mass"}, GOOD.coverage[1]]},
            "prediction sets",
            "Prediction sets for 'mass' miss their guaranteed coverage on the external test set",
        ),
        (
            {"coverage": [GOOD.coverage[0], covered(0.8, 0.7, 0.89, "internal_patients")]},
            "prediction sets",
            "in internal validation: they contain the true answer for a share of 0.80 (0.70 to 0.89)",
        ),
        (
            {"differences": [difference("external", "log_loss", -0.247, -0.056, -0.435)]},
            "harm by adaptation",
            "Adaptation harmed the model on the external test set: with a linear probe the log-loss is higher by "
            "0.247 (0.056 to 0.435), 29 images of 24 patients",
        ),
        (
            {"recipes": GOOD.recipes | {"final": OTHER}},
            "other recipe than the folds",
            "than most evaluated folds (lp_ft, the folds probe (3))",
        ),
        (
            {"recipes": GOOD.recipes | {"final": OTHER}},
            "other recipe than the folds",
            "internal results (270 patients, 120 events) describe other models",
        ),
        (
            {"recipes": GOOD.recipes | {"1": OTHER}},
            "other recipe than the folds",
            "The chosen recipe changes from fold to fold (released: probe; folds: probe (2) and lp_ft (1))",
        ),
        (
            {"decisions": [decision(0.05, (0.0, -0.1, 0.1)), decision(0.5, (0.17, -0.09, 0.33))]},
            "no net benefit",
            "at any of 2 thresholds from 0.05 to 0.50: the largest gain in net benefit is 0.17 (-0.09 to 0.33), at",
        ),
        (
            {"baselines": [*GOOD.baselines, POOLED, SITE]},
            "site nearly as good",
            "AUC 0.88 (0.78 to 0.98) against 0.90, difference 0.02 (-0.03 to 0.08)",
        ),
        (
            {"classes": pd.DataFrame({"class": ["well", "ill"], "n": [150, 32]})},
            "too few events",
            "Only 32 patients in internal validation have the rarest outcome, 'ill' (100 are required): AUC 0.90 (0.80 "
            "to 0.95), calibration slope 1.10 (0.80 to 1.40)",
        ),
    ],
)
def test_each_fault_is_one_fact_with_its_numbers(changes, kind, said):
    [fact] = facts_of(**changes)
    assert fact.kind == kind and said in fact.sentence and fact.sentence.endswith(".")
    assert fact.severity == list(CHECKS).index(kind) and to_know([fact]) == [fact.sentence]


@pytest.mark.parametrize(("cases", "said"), [(0, "there is no test set"), (29, "its test set of 29 cases is closed")])
def test_a_model_without_a_test_set_is_compared_within_its_folds(cases, said):
    hidden = {"test": None, "answered": None, "test_cases": cases}
    inside = baseline("age", (0.0, -0.1, 0.1), scope="internal_patients", over="mean of folds")
    never, not_better = facts_of(**hidden, baselines=[inside], decisions=[], differences=[])
    assert said in never.sentence and not_better.sentence.startswith("In internal validation the model is not shown")


def test_an_interval_without_width_is_no_interval():
    [fact] = facts_of(test=metrics(auc=(1.0, 1.0, 1.0)) | FEW)
    assert "AUC 1.00 (too few events for an interval)" in fact.sentence


def test_the_first_set_with_a_harm_is_named_with_all_its_harms():
    rows = [difference("internal", "auc", -0.3, -0.2), difference("left out", "auc", -0.1, -0.05, -0.2)]
    rows += [difference("left out", "log_loss", -0.4, -0.1), difference("left out", "brier", -0.4, -0.1)]
    rows += [difference("external", "auc", -0.1, 0.0), difference("site north", "auc", -0.1, -0.05)]
    [fact] = facts_of(differences=rows)
    assert "at sites left out of training" in fact.sentence
    assert "AUC is lower by 0.100 (0.050 to 0.200), the log-loss is higher by 0.400" in fact.sentence
    assert "Brier" not in fact.sentence
    rows = [row | {"comparison": "transfer"} for row in rows]
    assert facts_of(differences=rows) == []


def test_facts_stand_by_seriousness_and_five_of_them_are_kept():
    faults = {"stamps": {"simulated": True, "evaluated_images_seen": False}, "answered": WITHHELD, "leaks": 1}
    faults |= {"patients_known": False, "recipes": GOOD.recipes | {"final": OTHER}}
    faults |= {"coverage": [covered(0.67, 0.47, 0.82)]}
    found = facts_of(**faults)
    assert [fact.severity for fact in found] == sorted(fact.severity for fact in found) and len(found) == 6
    kept = to_know(found)
    assert len(kept) == 5 and "simulated" in kept[0] and "withholds" in kept[1]
    assert not any("recipe" in sentence for sentence in kept)


def test_a_dropped_gate_does_not_hide_its_fact():
    limits = dict.fromkeys(LIMITS)
    faults = replace(GOOD, coverage=[covered(0.67, 0.47, 0.82)], baselines=[baseline("age", (0.0, -0.1, 0.1))])
    assert [fact.kind for fact in key_facts(faults, limits)] == ["not better than without images", "prediction sets"]


def test_events_are_named_for_two_classes_only():
    few = {"binary": False, "internal": metrics() | FEW, "recipes": dict.fromkeys(("0", "final"), PROBE)}
    [fact] = facts_of(**few)
    assert ": 10 patients in internal validation" in fact.sentence and "events" not in fact.sentence


def test_a_column_that_tells_the_label_is_a_fact_of_a_model_with_columns():
    known = {"kind": "categorical", "by": "all", "value": "", "n": 300, "missing": 0, "values": "a 150, b 150"}
    assert facts_of(columns=[known | {"column": "age", "auc": 0.8, "refused": None}]) == []
    [fact] = facts_of(columns=[known | {"column": "code", "auc": 1.0, "refused": None}])
    assert (fact.kind, fact.anchor) == ("column tells the label", "columns")
    assert "tells the label by itself: 'code' (AUC 1.000)" in fact.sentence
