import pandas as pd
import pytest

from pipeline.stages.report.diagrams import roc
from pipeline.stages.report.tasks import labels_left_out, repetitions, words_of


@pytest.mark.parametrize(
    ("task", "classes", "evaluated", "columns"),
    [
        ("multiclass", ["a", "b"], "positive class", {"accuracy"}),
        ("multiclass", ["a", "b", "c"], "top label", {"accuracy"}),
        ("ordinal", ["a", "b", "c"], "top label", {"accuracy", "quadratic_kappa", "grade_error"}),
        ("multilabel", ["a", "b"], "each label by itself", set()),
    ],
)
def test_each_task_is_told_in_its_own_metrics_and_words(task, classes, evaluated, columns):
    words = words_of(task, classes, "none")
    assert words["evaluated_prediction"] == evaluated and words["rule"] == ""
    asked = {"accuracy", "quadratic_kappa", "grade_error"}
    assert set(words["metrics"]) & asked == columns and {"auc", "log_loss", "ece"} <= set(words["metrics"])


def test_only_means_of_fewer_labels_than_there_are_are_told():
    labels = {name: {"n": 5, "events": 1} for name in "abc"}
    assert labels_left_out({"labels": labels, "labels_in_mean": {"auc": 3, "calibration_slope": 3}}) == []
    [told] = labels_left_out({"labels": labels, "labels_in_mean": {"auc": 3, "calibration_slope": 1}})
    assert told.startswith("1 of 3 (slope")
    assert labels_left_out({"n": 3}) == []


def repetition(name, auc, log_loss):
    limits = {f"{metric}_{end}": 0.5 for metric in ("auc", "log_loss") for end in ("lower", "upper")}
    return {"repetition": name, "n": 9, "events": 4, "auc": auc, "log_loss": log_loss, **limits}


def test_one_repetition_has_no_spread_and_several_have_their_range():
    assert repetitions([repetition("r1", 0.8, 0.4)])["rows"] == []
    found = repetitions([repetition("r1", 0.8, 0.4), repetition("r2", 0.7, 0.5), repetition("r3", None, 0.6)])
    assert found["spread"] == {"auc": (0.7, 0.8), "log_loss": (0.4, 0.6)}
    assert found["rows"][2]["auc"] is None and found["rows"][1]["log_loss"]["value"] == 0.5


def test_patients_have_roc_curves_of_their_own_beside_those_of_images():
    corners = {"false_positive_rate": [0.0, 1.0], "true_positive_rate": [0.0, 1.0]}
    scopes = ["internal", "external", "internal_patients", "external_patients"]
    drawn = roc(pd.concat([pd.DataFrame(corners).assign(scope=scope) for scope in scopes]))
    assert [plot["caption"] for plot in drawn] == ["ROC curve", "ROC curve, patients"]
    assert all(plot["svg"].count("<polyline") == 2 for plot in drawn)
    assert len(roc(pd.DataFrame(corners).assign(scope="internal"))) == 1
