"""Two runs on the same cases: which cases those are, which sign means better, and what the intervals cover."""

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics import comparison, discrimination
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.calibrators.calibrator import identity_for
from pipeline.metrics.comparison import METRICS, Settings, in_common, paired, unpaired
from pipeline.metrics.evaluation import TaskSpec, evaluated_by, summary_of

SETTINGS = Settings(bins=10, bootstrap=Bootstrap(400, 0.95, 3))


def Predictions(units, patients, labels, probabilities, folds=None):  # noqa: N802 - of one model unless told
    folds = np.full(len(units), "final") if folds is None else folds
    return comparison.Predictions(units, patients, labels, probabilities, folds=folds)


def drawn(n=120, signal=1.0, scale=1.0, seed=0):
    """Two classes of cases, two of each patient; of one seed, signal and scale change the prediction alone."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 2, n // 2), 2)
    logits = scale * (signal * (2 * labels - 1) + rng.normal(size=n))
    event = 1 / (1 + np.exp(-logits))
    cases, patients = (np.array([f"{word}{number:03d}" for number in range(n)]) for word in ("case", "patient"))
    return Predictions(cases, patients[np.arange(n) // 2], labels, np.stack([1 - event, event], axis=1))


def of_labels(n=80, noise=1.0, seed=0):
    """Three labels that stand each by itself, one value in ten not known."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, 3)).astype(float)
    probabilities = 1 / (1 + np.exp(-(2 * labels - 1) - noise * rng.normal(size=(n, 3))))
    labels[rng.random((n, 3)) < 0.1] = np.nan
    names = np.array([f"case{number:03d}" for number in range(n)])
    return Predictions(names, names, labels, probabilities)


def by_metric(found):
    return {one.metric: one for one in found}


def test_a_better_run_has_positive_differences_in_every_metric():
    good, bad = drawn(400, 0.8, 1.6), drawn(400, 0.3, 5)
    found = by_metric(paired(bad, good, SETTINGS))
    assert list(found) == list(METRICS)
    assert all(one.better_by.lower > 0 and one.verdict == "better" for one in found.values())
    turned = by_metric(paired(good, bad, SETTINGS))
    for name in METRICS:
        assert turned[name].better_by.value == pytest.approx(-found[name].better_by.value)
        assert turned[name].verdict == "worse"


def test_a_difference_is_of_metrics_and_for_slopes_of_distances_from_one():
    found = by_metric(paired(drawn(scale=3), drawn(signal=0.8, scale=0.5), SETTINGS))
    for name in ("log_loss", "brier", "ece"):
        assert found[name].better_by.value == pytest.approx(found[name].reference.value - found[name].run.value)
    assert found["auc"].better_by.value == pytest.approx(found["auc"].run.value - found["auc"].reference.value)
    slopes = found["calibration_slope"]
    assert slopes.reference.value < 1 < slopes.run.value
    expected = abs(slopes.reference.value - 1) - abs(slopes.run.value - 1)
    assert slopes.better_by.value == pytest.approx(expected)


def test_pairing_takes_off_what_is_hard_for_both():
    first, second = drawn(), drawn(signal=1.05)
    together, alone = by_metric(paired(first, second, SETTINGS)), by_metric(unpaired(first, second, SETTINGS))
    found = together["log_loss"].better_by
    apart = alone["log_loss"].run.upper - alone["log_loss"].run.lower
    assert found.upper - found.lower < apart / 4
    assert all(one.better_by is None and one.verdict == "not compared" for one in alone.values())


def test_a_run_equals_itself_and_monotone_predictions_keep_the_auc():
    once = drawn()
    assert {one.verdict for one in paired(once, once, SETTINGS)} == {"the same"}
    found = by_metric(paired(once, drawn(scale=8), SETTINGS))
    assert found["auc"].verdict == "the same" and found["log_loss"].verdict == "worse"


def test_intervals_draw_patients_not_images():
    """Every case twice, as images of one patient, tells no more than every case once."""
    first, second = drawn(), drawn(signal=0.8)
    own = [Predictions(one.units, one.units, one.labels, one.probabilities) for one in (first, second)]
    twice = [
        Predictions(
            np.arange(240).astype(str), *(np.repeat(part, 2, axis=0) for part in (o.units, o.labels, o.probabilities))
        )
        for o in own
    ]
    single, double = (by_metric(paired(*pair, SETTINGS))["brier"].better_by for pair in (own, twice))
    assert (double.lower, double.upper) == pytest.approx((single.lower, single.upper))


def test_in_common_selects_and_aligns_cases_with_equal_labels():
    first, second = drawn(), drawn(signal=0.5)
    relabelled = second.labels.copy()
    relabelled[5] = 1 - relabelled[5]
    order = np.random.default_rng(1).permutation(np.arange(3, 120))
    second = Predictions(second.units, second.patients, relabelled, second.probabilities).at(order)
    before, after = in_common(first.at(np.arange(100)), second)
    assert set(before.units) == {f"case{number:03d}" for number in range(3, 100) if number != 5}
    np.testing.assert_array_equal(before.units, after.units)
    np.testing.assert_array_equal(before.labels, after.labels)
    rows = [int(name[4:]) for name in after.units]
    np.testing.assert_array_equal(after.probabilities, drawn(signal=0.5).probabilities[rows])


def test_in_common_keeps_multilabel_cases_with_equal_known_labels():
    first, second = of_labels(), of_labels(noise=2)
    known = first.labels.copy()
    known[7] = [1, np.nan, 0]
    other = known.copy()
    other[7] = [1, 0, 0]
    before, _ = in_common(
        Predictions(first.units, first.patients, known, first.probabilities),
        Predictions(second.units, second.patients, other, second.probabilities),
    )
    assert set(first.units) - set(before.units) == {"case007"} and np.isnan(before.labels).any()


def test_a_case_that_is_evaluated_twice_is_refused():
    once = drawn()
    twice = once.at(np.r_[0, np.arange(120)])
    for pair in ((once, twice), (twice, once)):
        with pytest.raises(ValueError, match="twice"):
            in_common(*pair)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_metrics_of_each_run_are_those_of_its_own_report(task):
    """The same numbers as `calibrate` writes, intervals included, for the same cases, seed and replicates."""
    one = drawn() if task == "multiclass" else of_labels()
    other = drawn(signal=0.7) if task == "multiclass" else of_labels(noise=2)
    classes = ["a", "b", "c"][: one.probabilities.shape[1]]
    logits = np.log(one.probabilities)
    if task == "multilabel":
        logits = logits - np.log1p(-one.probabilities)
    table = pd.DataFrame({"case": one.units, "patient": one.patients, "site": "", "fold": one.folds})
    table[[f"logit_{number}" for number in range(len(classes))]] = logits
    evaluated = evaluated_by(identity_for(one.labels), table, one.labels)
    report = summary_of(evaluated, evaluated.calibrated, TaskSpec(classes, task), bins=10, bootstrap=SETTINGS.bootstrap)
    for name, found in by_metric(paired(one, other, SETTINGS)).items():
        for limit in ("value", "lower", "upper"):
            assert getattr(found.reference, limit) == pytest.approx(report[name][limit], abs=2e-6), (name, limit)


def test_more_classes_are_compared_by_the_mean_of_each_against_the_rest():
    rng = np.random.default_rng(0)
    labels, names = rng.integers(0, 3, 90), np.arange(90).astype(str)
    runs = []
    for noise in (1.0, 3.0):
        raw = np.exp(np.eye(3)[labels] * 2 + noise * np.random.default_rng(5).normal(size=(90, 3)))
        runs.append(Predictions(names, names, labels, raw / raw.sum(axis=1, keepdims=True)))
    found = by_metric(paired(*runs, SETTINGS))
    aucs = [discrimination.macro_auc(one.probabilities, labels, np.ones((1, 90)))[0] for one in runs]
    assert found["auc"].better_by.value == pytest.approx(aucs[1] - aucs[0]) and found["auc"].verdict == "worse"


def test_a_metric_that_does_not_exist_on_these_cases_is_not_computable():
    one_class = drawn().at(np.flatnonzero(drawn().labels == 1))
    found = by_metric(paired(one_class, one_class, SETTINGS))
    assert found["auc"].verdict == "not computable" and found["auc"].reference.value is None
    assert found["brier"].verdict == "the same"


def test_the_interval_covers_no_difference_as_often_as_it_says():
    """Two runs that are equally good, on fresh cases each time: 95 in 100 intervals hold zero."""
    covered, rounds = 0, 200
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        labels, names = rng.integers(0, 2, 100), np.arange(100).astype(str)
        pair = []
        for _ in range(2):
            event = 1 / (1 + np.exp(-(2 * labels - 1) - rng.normal(size=100)))
            pair.append(Predictions(names, names, labels, np.stack([1 - event, event], axis=1)))
        found = by_metric(paired(*pair, Settings(10, Bootstrap(200, 0.95, seed))))["brier"].better_by
        covered += found.lower <= 0 <= found.upper
    assert 0.89 <= covered / rounds <= 0.985


def test_folds_widen_a_difference_and_what_it_could_detect():
    """Models of five folds share training patients, so that the variance is 2.25 times that of one model."""
    one, other = drawn(400), drawn(400, signal=0.8)
    folds = (np.arange(400) // 2 % 5).astype(str)
    alone = by_metric(paired(one, other, SETTINGS))["brier"].better_by
    across = [Predictions(run.units, run.patients, run.labels, run.probabilities, folds=folds) for run in (one, other)]
    coupled = by_metric(paired(*across, SETTINGS))["brier"].better_by
    assert coupled.value == alone.value
    assert coupled.se == pytest.approx(1.5 * alone.se)
    assert coupled.minimum_detectable == pytest.approx(1.5 * alone.minimum_detectable)
    assert (coupled.upper - coupled.lower) / (alone.upper - alone.lower) == pytest.approx(1.5, rel=0.15)
