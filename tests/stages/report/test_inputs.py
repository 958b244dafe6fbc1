"""What the report says of the columns that the model takes."""

from pipeline.stages.report.inputs import inputs_in_words


def row(column, by, value="", n=20, missing=0, **more):
    known = {"column": column, "kind": "numeric", "by": by, "value": value, "n": n, "missing": missing}
    return known | {"values": "60 (50 to 70)", "auc": None, "refused": None} | more


def test_each_column_is_told_by_class_and_site():
    rows = [row("age", "all", auc=0.7), row("age", "class", "ill", missing=5), row("age", "site", "north", n=0)]
    found = inputs_in_words(rows)
    [age] = found["columns"]
    assert (age["name"], age["kind"], age["alone"]) == ("age", "numeric", ("AUC", 0.7)) and found["findings"] == []
    assert [(one["what"], one["missing"]) for one in age["groups"]] == [
        ("held-out cases", "0 (0%)"),
        ("class ill", "5 (25%)"),
        ("site north", "no case"),
    ]


def test_a_column_that_tells_the_label_is_a_finding():
    rows = [row("age", "all", auc=0.7), row("code", "all", auc=0.995), row("code", "class", "ill")]
    [finding] = inputs_in_words(rows)["findings"]
    assert finding.startswith("A column of cohort.inputs tells the label by itself: 'code' (AUC 0.995).")
    assert "take it out of cohort.inputs" in finding and "age" not in finding


def test_test_cases_that_predict_would_refuse_are_a_finding():
    rows = [row("age", "all", auc=0.7), row("age", "test", n=12, refused=2.0)]
    [finding] = inputs_in_words(rows)["findings"]
    assert finding.startswith("2 of 12 cases of the test set have a value of 'age' unlike any development case")
