"""Verdicts from tables written by hand, and on cohorts in which no arm is better than the other."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.stages.evidence.statistics.differences import DIFFERENCES, difference_table, scopes_of
from pipeline.stages.evidence.statistics.label_efficiency import LABEL_EFFICIENCY
from pipeline.stages.evidence.statistics.learning_curves import CURVE_DIFFERENCES, curve_differences
from pipeline.stages.evidence.statistics.overfitting import OVERFITTING
from pipeline.stages.evidence.statistics.stratified import resample
from pipeline.stages.evidence.statistics.training_time import TIME_TO_QUALITY
from pipeline.stages.evidence.statistics.verdicts import VERDICTS, verdicts, word_of
from tests.stages.evidence.statistics.cohorts import probed


def difference(
    scope, recipe="probe", comparison="adaptation", value=0.03, lower=0.01, upper=0.05, folds=5, metric="auc"
):
    return (recipe, scope, comparison, metric, value, lower, upper, 0.02, 100, 90, folds)


def tables(*differences, **others):
    columns = {
        "curve_differences": CURVE_DIFFERENCES,
        "label_efficiency": LABEL_EFFICIENCY,
        "time_to_quality": TIME_TO_QUALITY,
        "overfitting": OVERFITTING,
    }
    found = {name: pd.DataFrame(rows, columns=columns[name]) for name, rows in others.items()}
    return {"differences": pd.DataFrame(differences, columns=DIFFERENCES), **found}


def verdict(found, promise, comparison="adaptation"):
    return found[(found["promise"] == promise) & (found["comparison"] == comparison)].iloc[0]


def test_the_word_is_told_by_the_whole_interval():
    assert word_of(0.01, 0.05, 0) == "helped" and word_of(-0.05, -0.01, 0) == "hurt"
    assert word_of(-0.01, 0.05, 0) == word_of(0.0, 0.05, 0) == word_of(0.9, 1.2, 1) == "no evidence"
    assert word_of(1.1, None, 1) == "helped" and word_of(None, 0.9, 1) == "hurt"
    assert word_of(None, 1.5, 1) == "no evidence" and word_of(None, None, 1) == "not measured"


def test_nothing_measured_is_ten_rows_that_say_why():
    found = verdicts({})
    assert list(found.columns) == VERDICTS and len(found) == 10
    assert list(found["promise"]) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert list(found["comparison"][:2]) == ["adaptation", "transfer"]
    assert set(found["verdict"]) == {"not measured"} and found["why"].str.len().min() > 20
    assert found[["recipe", "metric", "value", "lower", "upper", "n", "patients"]].isna().all(axis=None)


def test_adaptation_is_evaluated_by_the_probe_and_transfer_by_training():
    rows = [
        difference("internal"),
        difference("internal", "trained", value=-0.03, lower=-0.05, upper=-0.01),
        difference("internal", "probe", "transfer"),
        difference("internal", "trained", "transfer", lower=-0.01),
    ]
    found = verdicts(tables(*rows))
    five = verdict(found, 5)
    assert (five["recipe"], five["verdict"], five["value"], five["minimum_detectable"]) == (
        "probe",
        "helped",
        0.03,
        0.02,
    )
    assert (five["n"], five["patients"], five["metric"]) == (100, 90, "auc") and "5 folds" in five["why"]
    transfer = verdict(found, 5, "transfer")
    assert (transfer["recipe"], transfer["verdict"]) == ("trained", "no evidence")
    only = verdict(verdicts(tables(*rows[1:2])), 5)
    assert (only["recipe"], only["verdict"]) == ("trained", "hurt")


def test_every_set_and_metric_of_new_domains_has_a_verdict():
    external = difference("external", value=-0.02, lower=-0.06, upper=0.01, folds=1)
    harm = difference("external", value=-0.25, lower=-0.44, upper=-0.06, folds=1, metric="log_loss")
    sites = [difference("left out", folds=3), difference("left out", lower=-0.1, folds=3, metric="log_loss")]
    found = verdicts(tables(*sites, harm, external, difference("external", metric="brier")))
    rows = found[(found["promise"] == 4) & (found["comparison"] == "adaptation")]
    assert rows[["scope", "metric", "verdict"]].to_numpy().tolist() == [
        ["external", "auc", "no evidence"],
        ["external", "log_loss", "hurt"],
        ["left out", "auc", "helped"],
        ["left out", "log_loss", "no evidence"],
    ]
    assert rows["why"].tolist()[::2] == ["external cases", "mean over 3 sites, each left out of training"]
    assert verdict(verdicts(tables(difference("test"))), 4)["verdict"] == "not measured"


def test_a_better_result_is_evaluated_on_the_test_set_first():
    found = verdicts(tables(difference("internal"), difference("test", value=-0.1, lower=-0.2, upper=-0.05)))
    rows = found[(found["promise"] == 5) & (found["comparison"] == "adaptation")]
    assert rows[["scope", "verdict"]].to_numpy().tolist() == [["test", "hurt"], ["internal", "helped"]]


def test_fewer_labels_tells_the_ratio_in_words():
    row = ("probe", "adaptation", 3, 0.02, 0.01, 0.03, 0.01, 100, 90, 4)
    ratio = ("probe", "adapted", "imagenet", 4.0, 2.0, None, 25.0, 100.0, "4 times fewer labelled patients")
    found = verdict(verdicts(tables(curve_differences=[row], label_efficiency=[ratio])), 1)
    assert found["verdict"] == "helped"
    basis = "mean over 3 fractions below 1, 4 folds; 4 times fewer labelled patients"
    assert found["why"] == f"{basis} (ratio 4.00, from 2.00)"
    narrow = ("probe", "adapted", "imagenet", 1.16, 0.68, 2.36, 25.0, 100.0, "1.2 times fewer labelled patients")
    found = verdict(verdicts(tables(curve_differences=[row], label_efficiency=[narrow])), 1)
    assert found["why"].endswith("1.2 times fewer labelled patients (ratio 1.16, 0.68 to 2.36)")


def test_training_time_is_a_ratio_and_overfitting_a_difference():
    def time(lower, upper, reached=5):
        row = {
            "arm": "adapted",
            "reference": "imagenet",
            "unit": "passes",
            "ratio": 1.5,
            "lower": lower,
            "upper": upper,
        }
        return [{**row, "reached": reached, "folds": 5, "minimum_detectable": 1.4, "words": ""}]

    assert verdict(verdicts(tables(time_to_quality=time(1.2, 2))), 2)["verdict"] == "helped"
    assert verdict(verdicts(tables(time_to_quality=time(0.9, 2))), 2)["verdict"] == "no evidence"
    assert verdict(verdicts(tables(time_to_quality=time(None, 2, reached=3))), 2)["verdict"] == "no evidence"
    assert verdict(verdicts(tables(time_to_quality=time(0.4, 0.8))), 2)["verdict"] == "hurt"
    gap = {"arm": "imagenet", "reference": "scratch", "train_loss": 0.3, "arm_gap": 0.1, "reference_gap": 0.2}
    gap |= {
        "difference": 0.1,
        "lower": 0.05,
        "upper": 0.2,
        "minimum_detectable": 0.04,
        "n": 80,
        "folds": 4,
        "words": "",
    }
    found = verdicts(tables(overfitting=[gap]))
    assert (verdict(found, 3, "transfer")["verdict"], verdict(found, 3)["verdict"]) == ("helped", "not measured")
    assert verdict(found, 3, "transfer")["recipe"] == "trained" and verdict(found, 3, "transfer")["n"] == 80
    never = {**gap, "difference": None, "lower": None, "upper": None, "words": "no equal training loss"}
    assert verdict(verdicts(tables(overfitting=[never])), 3, "transfer")["why"] == "no equal training loss"


def test_a_value_without_an_interval_is_no_verdict():
    found = verdict(verdicts(tables(difference("internal", lower=None, upper=None))), 5)
    assert found["verdict"] == "not measured" and "too few data for an interval" in found["why"]
    assert pd.isna(found["value"])


def on_cohort(seed, **settings):
    internal, domains = probed(seed, **settings)
    drawn = resample([internal, domains], Bootstrap(200, 0.95, seed + 10**6))
    scopes = scopes_of(internal, domains, "external", drawn)
    return verdicts(
        {
            "curve_differences": curve_differences(internal, drawn[0]),
            "differences": difference_table(scopes, 10, ["auc"]),
        }
    )


def test_verdicts_on_random_labels_err_no_more_than_intervals_promise():
    """Probes of two arms learn random labels; without the coupling of folds about one in ten would be wrong."""
    words = {promise: [] for promise in (1, 4, 5)}
    for seed in range(300):
        found = on_cohort(seed, external=0)
        for promise, said in words.items():
            said.append(verdict(found, promise)["verdict"])
    for promise, said in words.items():
        wrong = np.isin(said, ["helped", "hurt"]).sum()
        assert 1 <= wrong <= binom.isf(0.005, 300, 0.05), (promise, wrong)
        assert "not measured" not in said


@pytest.mark.parametrize(("better", "word"), [("adapted", "helped"), ("imagenet", "hurt")])
def test_a_large_difference_is_seen_whichever_arm_it_favours(better, word):
    for seed in range(5):
        found = on_cohort(seed, n=200, better=better, external=0)
        assert [verdict(found, promise)["verdict"] for promise in (1, 4, 5)] == [word] * 3
