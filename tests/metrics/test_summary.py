import numpy as np
import pytest

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.summary import (
    METRICS,
    OF_GRADES,
    BadProbabilities,
    check_probabilities,
    collapses,
    counts_of,
    in_short,
    of_a_repetition,
    of_a_site,
    per_class,
    recalls,
    reliability,
    rows_of,
    summarise,
    wilson,
)

BOOTSTRAP = Bootstrap(100, 0.95, 0)


def sample(n=120, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(n_classes), n)
    return p, np.array([rng.choice(n_classes, p=row) for row in p]), np.array([f"p{i // 2}" for i in range(n)])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_summarise_gives_every_metric_inside_its_interval_and_the_counts(n_classes):
    found = summarise(*sample(n_classes=n_classes), bins=10, bootstrap=Bootstrap(200, 0.95, 0))
    for name in METRICS:
        if name == "calibration_intercept" and n_classes > 2:
            continue
        assert found[name]["lower"] <= found[name]["value"] <= found[name]["upper"] or name == "ece", name
    assert (found["n"], found["patients"]) == (120, 60)


def test_calibration_error_of_true_probabilities_is_within_its_null():
    found = summarise(*sample(500), bins=10, bootstrap=BOOTSTRAP)
    assert found["ece"]["value"] <= found["ece_if_perfect"]["upper"]


@pytest.mark.parametrize("corrupt", [np.nan, np.inf, 0.7])
def test_probabilities_that_are_none_are_an_error_and_never_dropped(corrupt):
    p, labels, patients = sample()
    p[3, 0] = corrupt
    with pytest.raises(BadProbabilities):
        summarise(p, labels, patients, bins=10, bootstrap=BOOTSTRAP)
    with pytest.raises(BadProbabilities):
        check_probabilities(p)


def test_the_reliability_table_counts_every_case_once():
    p, labels, _ = sample(200)
    table = reliability(p, labels, 10)
    assert table["n"].sum() == 200
    assert ((table["lower"] <= table["observed"]) & (table["observed"] <= table["upper"])).all()


def test_wilsons_interval_of_nothing_in_fifty():
    lower, upper = wilson(0, 50)
    assert lower == 0 and upper == pytest.approx(0.0713, abs=1e-4)


def test_each_class_has_its_own_row():
    p, labels, patients = sample(150, 3)
    table = per_class(p, labels, patients, ["a", "b", "c"], bootstrap=BOOTSTRAP)
    assert table["class"].tolist() == ["a", "b", "c"] and table["n"].sum() == 150
    for number in range(3):
        truth = labels == number
        assert table.loc[number, "sensitivity"] == pytest.approx((p.argmax(axis=1)[truth] == number).mean())


def test_a_class_with_recall_zero_is_a_collapse_and_an_absent_class_is_not():
    p = np.array([[0.6, 0.3, 0.1]] * 5 + [[0.1, 0.8, 0.1]])
    labels = np.array([0, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(recalls(p, labels), [0.75, 0, np.nan])
    table = collapses(p, labels, ["a", "b", "c"])
    assert table.to_dict("records") == [{"class": "b", "n": 2, "recall": 0}]
    labels[-1] = 1
    assert collapses(p, labels, ["a", "b", "c"]).empty


def test_the_row_of_a_site_holds_its_metrics_and_its_lowest_recall():
    p, labels, patients = sample(90, 3)
    found = summarise(p, labels, patients, bins=10, bootstrap=BOOTSTRAP)
    row = of_a_site(found, p, labels)
    shares = [(p.argmax(axis=1)[labels == number] == number).mean() for number in range(3)]
    assert row["worst_recall"] == pytest.approx(min(shares), abs=1e-6)
    assert (row["n"], row["log_loss_lower"]) == (90, found["log_loss"]["lower"])


def test_grades_add_two_metrics_to_those_of_classes():
    p, labels, patients = sample(90, 4)
    classes = summarise(p, labels, patients, bins=10, bootstrap=BOOTSTRAP)
    grades = summarise(p, labels, patients, bins=10, bootstrap=BOOTSTRAP, ordinal=True)
    assert {name: grades[name] for name in classes} == classes
    assert set(grades) - set(classes) == set(OF_GRADES)
    for name in OF_GRADES:
        assert grades[name]["lower"] < grades[name]["value"] < grades[name]["upper"]


@pytest.mark.parametrize(("n_classes", "events"), [(2, 4), (3, 1), (4, 0)])
def test_events_are_the_positive_or_the_rarest_class(n_classes, events):
    labels = np.array([0, 0, 1, 1, 1, 1, 2])[: 6 if n_classes == 2 else 7]
    assert counts_of(labels, np.array(["p"] * len(labels)), n_classes)["events"] == events


def test_summary_of_several_classes_has_no_events():
    found = summarise(*sample(n_classes=3), bins=10, bootstrap=BOOTSTRAP)
    assert "events" not in in_short(found, with_events=False)
    assert in_short(found, with_events=True) == in_short(found, with_events=False) | {"events": found["events"]}


def test_a_repetition_is_told_by_its_auc_and_its_log_loss():
    found = summarise(*sample(90), bins=10, bootstrap=BOOTSTRAP)
    row = of_a_repetition(found)
    assert (row["n"], row["auc"], row["log_loss_upper"]) == (90, found["auc"]["value"], found["log_loss"]["upper"])
    assert set(row) == {"n", "events"} | {
        f"{name}{end}" for name in ("auc", "log_loss") for end in ("", "_lower", "_upper")
    }


def test_multilabel_tasks_have_no_recall():
    p, labels = np.array([[0.1, 0.9], [0.2, 0.3]]), np.array([[1, 0], [np.nan, 1.0]])
    assert collapses(p, labels, ["a", "b"]).empty
    metric = {"value": 0.5, "lower": 0.4, "upper": 0.6}
    found = {"n": 2, "patients": 2, "events": 2, "auc": metric, "log_loss": metric, "calibration_slope": metric}
    assert of_a_site(found, p, labels)["worst_recall"] is None
    assert len(rows_of(found | {"labels": {"a": {"n": 1, "events": 1}}}, "internal")) == 3
