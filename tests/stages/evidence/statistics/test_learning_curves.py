"""Learning curves against what each prediction gives by itself."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.stages.evidence.statistics.learning_curves import (
    CURVE_DIFFERENCES,
    LEARNING_CURVE,
    curve_differences,
    learning_curve,
)
from pipeline.stages.evidence.statistics.runs import Key
from pipeline.stages.evidence.statistics.stratified import auc, log_loss, resample
from tests.stages.evidence.statistics.cohorts import planted, probed


def drawn(runs, replicates=50):
    return resample([runs], Bootstrap(replicates, 0.95, 0))[0]


def one(runs, key, metric, among=slice(None)):
    known = runs.probabilities[key][among], runs.labels[among], runs.folds[among]
    return metric(*known, np.ones((1, len(known[1]))))[0]


def row_of(table, **wanted):
    return table[(table[list(wanted)] == list(wanted.values())).all(axis=1)].iloc[0]


def without(runs, key, fold):
    """Pretend that one training did not come to one fold."""
    gone = np.where((runs.folds == fold)[:, None], np.nan, runs.probabilities[key])
    return replace(runs, probabilities={**runs.probabilities, key: gone})


def test_a_point_is_the_mean_over_draws_at_its_number_of_patients():
    runs = planted(0, n=100)
    table = learning_curve(runs, ["no", "yes"], drawn(runs))
    assert list(table.columns) == LEARNING_CURVE and len(table) == 2 * 2 * 5
    for metric, computed in (("auc", auc), ("log_loss", log_loss)):
        row = row_of(table, arm="adapted", metric=metric, fraction=0.25)
        each = [one(runs, Key("probe", "adapted", 0.25, draw), computed) for draw in range(3)]
        assert row["value"] == pytest.approx(np.mean(each), abs=1e-6)
        assert row["lower"] < row["value"] < row["upper"]
        assert (row["patients"], row["draws"], row["n"], row["of"]) == (100, 3, 100, "")


def test_draws_that_differ_widen_the_interval():
    runs = planted(1, n=200)
    alike = {key: runs.probabilities[Key(*key[:3], 0)] for key in runs.probabilities}
    widths = []
    for probabilities in (runs.probabilities, alike):
        row = row_of(
            learning_curve(replace(runs, probabilities=probabilities), ["no", "yes"], drawn(runs)), metric="auc"
        )
        widths.append(row["upper"] - row["lower"])
    only = Key("probe", "adapted", 0.0625, 0)
    assert widths[1] == pytest.approx(
        np.subtract(
            *np.quantile(
                np.sqrt(1.0625) * auc(runs.probabilities[only], runs.labels, runs.folds, drawn(runs).weights)[1:],
                [0.975, 0.025],
            )
        ),
        abs=1e-5,
    )
    assert widths[0] != pytest.approx(widths[1], rel=0.01)


def test_points_of_an_arm_use_only_the_folds_of_all_its_trainings():
    runs = planted(0, n=100)
    key = Key("probe", "adapted", 1.0, 0)
    part = without(runs, key, "2")
    table = learning_curve(part, ["no", "yes"], drawn(part))
    assert set(table[table["arm"] == "adapted"]["n"]) == {80} and set(table[table["arm"] == "imagenet"]["n"]) == {100}
    row = row_of(table, arm="adapted", metric="auc", fraction=1.0)
    assert row["value"] == pytest.approx(one(runs, key, auc, runs.folds != "2"), abs=1e-6)


def test_each_class_has_a_curve_against_the_rest():
    runs = planted(0, n=120)
    rng = np.random.default_rng(0)
    three = replace(
        runs,
        labels=rng.integers(3, size=120),
        probabilities={key: rng.dirichlet(np.ones(3), size=120) for key in runs.probabilities},
    )
    table = learning_curve(three, ["a", "b", "c"], drawn(three))
    assert list(dict.fromkeys(table["of"])) == ["", "a", "b", "c"]
    at = {"arm": "imagenet", "metric": "auc", "fraction": 0.5}
    each = [row_of(table, of=name, **at)["value"] for name in "abc"]
    assert row_of(table, of="", **at)["value"] == pytest.approx(np.mean(each), abs=1e-6)
    assert set(table[table["of"] == "a"]["metric"]) == {"auc"}


def test_a_difference_is_the_mean_over_the_fractions_below_one():
    runs, _ = probed(0, fractions=(0.25, 0.5, 1.0), signal=0.5)
    table = curve_differences(runs, drawn(runs))
    assert list(table.columns) == CURVE_DIFFERENCES and len(table) == 1
    points = [
        one(runs, Key("probe", "adapted", f, d), auc) - one(runs, Key("probe", "imagenet", f, d), auc)
        for f in (0.25, 0.5)
        for d in range(2)
    ]
    row = table.iloc[0]
    assert row["value"] == pytest.approx(np.mean(points), abs=1e-6)
    assert (row["comparison"], row["fractions"], row["n"], row["patients"], row["folds"]) == (
        "adaptation",
        2,
        100,
        100,
        5,
    )


def test_difference_is_zero_for_equal_arms_and_negated_by_exchange():
    runs = planted(0, n=100)
    mine, other = ("adapted", "imagenet")
    same = {key: runs.probabilities[key._replace(arm=other)] for key in runs.probabilities}
    row = curve_differences(replace(runs, probabilities=same), drawn(runs)).iloc[0]
    assert (row["value"], row["lower"], row["upper"]) == (0, 0, 0)
    swapped = {
        key: runs.probabilities[key._replace(arm=other if key.arm == mine else mine)] for key in runs.probabilities
    }
    there, back = (
        curve_differences(replace(runs, probabilities=one_), drawn(runs)).iloc[0]
        for one_ in (runs.probabilities, swapped)
    )
    assert (back["value"], back["lower"], back["upper"]) == (-there["value"], -there["upper"], -there["lower"])


def test_arms_without_a_fold_or_a_fraction_in_common_are_not_compared():
    runs = planted(0, n=100)
    for fold in "012":
        for key in [key for key in runs.probabilities if key.arm == "adapted"]:
            runs = without(runs, key, fold)
    assert curve_differences(runs, drawn(runs)).iloc[0]["folds"] == 2
    for fold in "34":
        runs = without(runs, Key("probe", "imagenet", 0.5, 0), fold)
    assert curve_differences(runs, drawn(runs)).empty
    full = {key: value for key, value in planted(0, n=100).probabilities.items() if key.fraction == 1}
    assert curve_differences(replace(runs, probabilities=full), drawn(runs)).empty
