"""Metrics of single classes, and prevalences by site."""

from pipeline.stages.report.classes import by_class
from pipeline.stages.report.cohort import prevalences

ENDS = ("", "_lower", "_upper")


def limits(name, value, lower, upper):
    return dict(zip((f"{name}{end}" for end in ENDS), (value, lower, upper), strict=True))


def row(label, auc=0.8, sensitivity=0.9):
    own = limits("auc", auc, 0.1, 0.95) | limits("sensitivity", sensitivity, 0.1, 0.95)
    return {"scope": "internal", "class": label, "n": 40, **own}


def test_each_class_has_its_metrics_with_their_limits():
    (found,) = by_class([row("well"), row("ill")], ["internal"])
    assert [one["class"] for one in found["rows"]] == ["well", "ill"]
    assert found["rows"][0]["auc"] == {"value": 0.8, "lower": 0.1, "upper": 0.95}


def test_prevalence_is_told_by_site_where_there_are_two_classes():
    flow = [
        {"site": "north", "side": "development", "counts": [3, 1]},
        {"site": "", "side": "test", "counts": [1, 1]},
        {"site": "east", "side": "unlabelled", "counts": [0, 0]},
    ]
    said = "Share of ill among the labelled cases: north 25% (development), (none) 50% (test)."
    assert prevalences(flow, ["well", "ill"]) == said
    assert prevalences(flow[:1], ["well", "ill"]) == "" and prevalences(flow, ["a", "b", "c"]) == ""
