"""What the page says differently for each task, and of repetitions: which metrics, in which words."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.stages.report.numbers import metric_of

Row = Mapping[str, Any]

ALWAYS = {"log_loss": "Log-loss", "brier": "Brier", "calibration_slope": "Slope", "ece": "ECE"}
OF_CLASSES = {"accuracy": "Accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity"}
OF_GRADES = {"quadratic_kappa": "Kappa", "grade_error": "Grade error"}
METRICS = {
    "multiclass": {"auc": "AUC", **OF_CLASSES, **ALWAYS},
    "ordinal": {"auc": "AUC", **OF_CLASSES, **ALWAYS, **OF_GRADES},
    "multilabel": {"auc": "AUC, mean over labels", **ALWAYS},
}
MACRO = {"auc": "AUC, macro", "sensitivity": "Sensitivity, macro", "specificity": "Specificity, macro"}
RULES = {
    "mean": "the mean of the logits of a patient's images",
    "max": "the image of a patient with the highest prediction",
}


def words_of(task: str, classes: Sequence[str], rule: str) -> dict[str, Any]:
    """Choose the words and columns that suit a task.

    Parameters
    ----------
    task : {"multiclass", "ordinal", "multilabel"}
    classes : sequence of str
    rule : {"none", "mean", "max"}
        How several images of a patient become one prediction.
    """
    multilabel = task == "multilabel"
    binary = len(classes) == 2 and not multilabel
    return {
        "task": task,
        "multilabel": multilabel,
        "binary": binary,
        "mean_auc": "a mean AUC over labels" if multilabel else "an AUC" if binary else "a macro AUC",
        "metrics": METRICS[task] if multilabel or binary else {**METRICS[task], **MACRO},
        "grades": OF_GRADES if task == "ordinal" else {},
        "evaluated_prediction": "each label by itself" if multilabel else "positive class" if binary else "top label",
        "rule": RULES.get(rule, ""),
    }


def labels_left_out(internal: Row) -> list[str]:
    """Say of the means over labels of a multilabel task which are of fewer labels than there are, and why."""
    names = {"auc": "AUC: both kinds of cases are needed", "calibration_slope": "slope: predictions separate the cases"}
    counted, count = internal.get("labels_in_mean", {}), len(internal.get("labels", {}))
    return [f"{counted[name]} of {count} ({why})" for name, why in names.items() if counted.get(name, count) < count]


def repetitions(table: Sequence[Row]) -> dict[str, Any]:
    """Put the repetitions of cross-validation into rows, and give the range of their metrics.

    Parameters
    ----------
    table : sequence of mapping
        Rows of repetition, n, events, and of auc and log_loss with _lower and _upper.

    Returns
    -------
    dict
        rows, and for each metric in `spread` the lowest and the highest value; no rows where there is one repetition.
    """
    if len(table) < 2:
        return {"rows": [], "spread": {}}
    metrics = ("auc", "log_loss")
    rows = [{**row, **{name: metric_of(row, name) for name in metrics}} for row in table]
    values = {name: [row[name]["value"] for row in rows if row[name]] for name in metrics}
    return {"rows": rows, "spread": {name: (min(some), max(some)) for name, some in values.items() if some}}
