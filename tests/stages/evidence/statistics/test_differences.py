"""Final metrics against the metrics themselves; differences against DeLong's; gaps that were planted."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.metrics import calibration, discrimination, paired_tests
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.summary import summarise
from pipeline.stages.evidence.statistics.differences import (
    DIFFERENCES,
    DOMAINS,
    FINAL,
    difference_table,
    domain_table,
    final_table,
    scopes_of,
)
from pipeline.stages.evidence.statistics.runs import Key, Runs
from pipeline.stages.evidence.statistics.stratified import auc, resample
from tests.stages.evidence.statistics.cohorts import ARMS, probed, scored, with_gap

BINS = 10


def scopes(internal, domains, replicates=200, test="external", seed=0):
    return scopes_of(internal, domains, test, resample([internal, domains], Bootstrap(replicates, 0.95, seed)))


def row_of(table, **wanted):
    return table[(table[list(wanted)] == list(wanted.values())).all(axis=1)].iloc[0]


def external_only(n=400, seed=0):
    """One test set: one model, one scale, so that textbook metrics hold."""
    rng = np.random.default_rng(seed)
    events, case, names = rng.random(n) < 0.4, rng.normal(size=n), np.arange(n).astype(str)
    keys = [Key("probe", arm, 1.0, 0) for arm in ARMS]
    predictions = {key: scored(rng, events, area, case) for key, area in zip(keys, (0.85, 0.75), strict=True)}
    return Runs(
        names, names, np.full(n, "final"), events.astype(int), np.full(n, "far"), predictions, dict.fromkeys(keys, 99.0)
    )


def test_the_final_metrics_are_those_of_the_summary():
    test = external_only()
    table = final_table(scopes(probed(0)[0], test), BINS)
    assert list(table.columns) == FINAL and set(table["scope"]) == {"internal", "external"}
    prediction = test.probabilities[Key("probe", "adapted", 1.0, 0)]
    expected = summarise(prediction, test.labels, test.patients, bins=BINS, bootstrap=Bootstrap(50, 0.95, 0))
    for metric in ("auc", "log_loss", "brier", "calibration_slope", "ece"):
        row = row_of(table, scope="external", arm="adapted", metric=metric)
        assert row["value"] == pytest.approx(expected[metric]["value"], abs=2e-6)
        assert row["lower"] < row["value"] < row["upper"] and row["n"] == 400


def test_an_external_difference_is_delongs():
    test = external_only()
    row = row_of(difference_table(scopes(probed(0)[0], test, 2000), BINS, ["auc"]), scope="external")
    scores = [test.probabilities[Key("probe", arm, 1.0, 0)][:, 1] for arm in ARMS]
    exact = paired_tests.delong(*scores, test.labels == 1)
    assert row["value"] == pytest.approx(exact.difference, abs=1e-6)
    assert (row["upper"] - row["lower"]) / 2 == pytest.approx(1.96 * exact.se, rel=0.08)
    assert row["minimum_detectable"] == pytest.approx(paired_tests.minimum_detectable_difference(exact.se), rel=0.08)


def test_every_difference_is_positive_where_the_arm_is_better():
    test = external_only()
    table = difference_table(scopes(probed(0)[0], test), BINS)
    assert list(table.columns) == DIFFERENCES
    mine, other = (test.probabilities[Key("probe", arm, 1.0, 0)] for arm in ARMS)
    once = np.ones((1, 400))
    known = {
        "auc": (discrimination.macro_auc, 1),
        "log_loss": (discrimination.log_loss, -1),
        "brier": (discrimination.brier, -1),
        "ece": (lambda p, y, w: calibration.calibration_error(p[:, 1], y == 1, w, BINS), -1),
        "calibration_slope": (lambda p, y, w: abs(calibration.calibration_slope(p[:, 1], y == 1, w) - 1), -1),
    }
    for name, (metric, sign) in known.items():
        expected = sign * (metric(mine, test.labels, once) - metric(other, test.labels, once))[0]
        assert row_of(table, scope="external", metric=name)["value"] == pytest.approx(expected, abs=1e-6)


def test_interval_of_folds_is_wider_by_their_coupling():
    internal, domains = probed(0, signal=0.5)
    found = difference_table(scopes(internal, domains, 1000), BINS, ["auc"])
    drawn, _ = resample([internal, domains], Bootstrap(1000, 0.95, 0))
    keys = [Key("probe", arm, 1.0, 0) for arm in ARMS]
    known = internal.labels, internal.folds, drawn.weights
    mine, other = (auc(internal.probabilities[key], *known) for key in keys)
    ends = np.quantile((mine - other)[1:], [0.025, 0.975])
    inside = row_of(found, scope="internal")
    assert inside["upper"] - inside["lower"] == pytest.approx(np.sqrt(2) * (ends[1] - ends[0]), abs=1e-5)
    site = row_of(found, scope="site s0")
    part = domains.folds == "without-s0"
    exact = paired_tests.delong(
        *(domains.probabilities[Key("probe", arm, 1.0, 0)][part, 1] for arm in ARMS), domains.labels[part] == 1
    )
    assert (site["upper"] - site["lower"]) / 2 == pytest.approx(1.96 * exact.se, rel=0.2)


def test_sites_left_out_are_averaged_and_all_count_the_same():
    internal, domains = probed(1, signal=0.5)
    table = difference_table(scopes(internal, domains), BINS)
    sites = [row_of(table, scope=f"site s{number}", metric="auc")["value"] for number in range(3)]
    mean = row_of(table, scope="left out", metric="auc")
    assert mean["value"] == pytest.approx(np.mean(sites), abs=1e-6)
    assert (mean["n"], mean["folds"]) == (100, 3)
    assert set(table[table["scope"] == "left out"]["metric"]) == {"auc", "log_loss"}


def test_a_site_of_few_patients_of_one_kind_does_not_count_in_the_mean():
    internal, domains = probed(1, signal=0.5)
    events = np.flatnonzero((domains.folds == "without-s2") & (domains.labels == 1))
    keep = ~np.isin(np.arange(len(domains.cases)), events[4:])
    few = Runs(
        *(getattr(domains, name)[keep] for name in ("cases", "patients", "folds", "labels", "sites")),
        {key: value[keep] for key, value in domains.probabilities.items()},
        domains.labelled,
    )
    table = difference_table(scopes(internal, few), BINS, ["auc"])
    sites = [row_of(table, scope=f"site s{number}")["value"] for number in range(2)]
    assert row_of(table, scope="left out")["value"] == pytest.approx(np.mean(sites), abs=1e-6)
    assert row_of(table, scope="site s2")["n"] == keep[domains.folds == "without-s2"].sum()


def test_a_fold_that_one_arm_lacks_is_left_out_for_both():
    internal, domains = probed(0)
    key = Key("probe", "adapted", 1.0, 0)
    gone = np.where((internal.folds == "3")[:, None], np.nan, internal.probabilities[key])
    part = replace(internal, probabilities={**internal.probabilities, key: gone})
    row = row_of(difference_table(scopes(part, domains), BINS, ["auc"]), scope="internal")
    n = (internal.folds != "3").sum()
    assert (row["n"], row["folds"]) == (n, 4)
    final = final_table(scopes(part, domains), BINS)
    assert row_of(final, scope="internal", arm="adapted", metric="auc")["n"] == n
    assert row_of(final, scope="internal", arm="imagenet", metric="auc")["n"] == 100


def test_gap_of_a_domain_excludes_test_cases_of_known_sites():
    internal, domains = probed(0, signal=0.8)
    table = domain_table(scopes(internal, domains))
    assert list(table.columns) == DOMAINS and len(table) == 2 * (3 + 1)
    row = row_of(table, arm="adapted", kind="external")
    events = domains.labels[domains.folds == "final"].sum()
    assert row["site"] == "far" and (row["n"], row["events"]) == (50, events)
    assert row["gap"] == pytest.approx(row["internal_auc"] - row["auc"], abs=2e-6)
    final = final_table(scopes(internal, domains), BINS)
    assert row["internal_auc"] == row_of(final, scope="internal", arm="adapted", metric="auc")["value"]
    assert set(domain_table(scopes(internal, domains, test="test"))["kind"]) == {"left_out"}


def test_patients_of_a_gap_are_drawn_as_often_on_both_sides():
    """The same predictions of the same cases have no gap, in no replicate, where folds are not coupled."""
    internal, _ = probed(0, signal=0.8)
    alone = replace(internal, folds=np.full(100, "0"))
    same = replace(alone, folds=np.full(100, "final"))
    row = domain_table(scopes(alone, same)).iloc[0]
    assert (row["gap"], row["gap_lower"], row["gap_upper"]) == (0, 0, 0)


def test_a_label_that_a_site_lacks_is_not_held_against_it():
    internal, _ = probed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=(100, 2)).astype(float)
    key = Key("probe", "adapted", 1.0, 0)
    easy = np.stack([np.clip(labels[:, 0], 0.2, 0.8), rng.random(100)], axis=1)  # the first label is found, always
    many = replace(internal, labels=labels, probabilities={key: easy})
    site = replace(many, labels=np.c_[labels[:, 0], np.zeros(100)], folds=np.full(100, "without-a"))
    row = domain_table(scopes(many, site)).iloc[0]
    assert (row["auc"], row["internal_auc"], row["gap"]) == (1, 1, 0)


def test_a_planted_gap_is_found():
    found = []
    for seed in range(100):
        found.append(domain_table(scopes(*with_gap(seed), seed=seed + 1000, replicates=100)).iloc[0])
    gaps = np.array([row["gap"] for row in found])
    assert gaps.mean() == pytest.approx(0.1, abs=4 * gaps.std() / 10) and gaps.std() < 0.08
    assert np.mean([row["gap_lower"] <= 0.1 <= row["gap_upper"] for row in found]) >= 0.9


def test_without_domains_there_are_metrics_out_of_fold_alone():
    internal, domains = probed(0)
    nothing = Runs(*(getattr(domains, name)[:0] for name in ("cases", "patients", "folds", "labels", "sites")), {}, {})
    found = scopes(internal, nothing)
    assert list(found) == ["internal"]
    assert domain_table(found).empty and set(difference_table(found, BINS, ["auc"])["scope"]) == {"internal"}
