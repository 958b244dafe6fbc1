"""Metrics of single classes, and the interval that they share with the rest of the page."""

from pipeline.stages.report.classes import by_class, shown_elsewhere
from pipeline.stages.report.cohort import prevalences

ENDS = ("", "_lower", "_upper")


def limits(name, value, lower, upper):
    return dict(zip((f"{name}{end}" for end in ENDS), (value, lower, upper), strict=True))


def metric(value, lower, upper):
    return {"value": value, "lower": lower, "upper": upper}


def row(label, auc=0.8, sensitivity=0.9):
    own = limits("auc", auc, 0.1, 0.95) | limits("sensitivity", sensitivity, 0.1, 0.95)
    return {"scope": "internal", "class": label, "n": 40, **own}


def shown(rows, elsewhere):
    (found,) = by_class(rows, ["internal"], elsewhere)
    return [[one["auc"]["lower"], one["sensitivity"]["lower"]] for one in found["rows"]]


def test_two_classes_have_the_intervals_of_the_pooled_metrics():
    pooled = {
        "internal_calibrated": {
            "auc": metric(0.8, 0.7, 0.9),
            "sensitivity": metric(0.9, 0.8, 1.0),
            "specificity": metric(0.6, 0.4, 0.7),
        }
    }
    elsewhere = shown_elsewhere(pooled, [], [], ["well", "ill"])
    assert shown([row("well", sensitivity=0.6), row("ill")], elsewhere) == [[0.7, 0.4], [0.7, 0.8]]
    assert shown([row("well", sensitivity=0.7)], elsewhere) == [[0.7, 0.1]]  # another value is another metric


def test_a_label_has_the_intervals_of_calibration_and_threshold():
    calibration = [{"scope": "internal", "state": "calibrated", "of": "cyst", **limits("auc", 0.8, 0.65, 0.9)}]
    at_half = [{"scope": "internal", "of": "cyst", **limits("sensitivity", 0.9, 0.75, 1.0)}]
    elsewhere = shown_elsewhere({}, calibration, at_half, [])
    assert shown([row("cyst"), row("node")], elsewhere) == [[0.65, 0.75], [0.1, 0.1]]


def test_prevalence_is_told_by_site_where_there_are_two_classes():
    flow = [
        {"site": "north", "side": "development", "counts": [3, 1]},
        {"site": "", "side": "test", "counts": [1, 1]},
        {"site": "east", "side": "unlabelled", "counts": [0, 0]},
    ]
    said = "Share of ill among the labelled cases: north 25% (development), (none) 50% (test)."
    assert prevalences(flow, ["well", "ill"]) == said
    assert prevalences(flow[:1], ["well", "ill"]) == "" and prevalences(flow, ["a", "b", "c"]) == ""
