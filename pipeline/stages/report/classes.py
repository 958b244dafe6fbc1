"""What the page shows class by class: the metrics of each, and the confusion matrix."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from pipeline.stages.report.blocks import Row, is_beside, question_of, set_name
from pipeline.stages.report.numbers import metric_of

Metric = Mapping[str, Any] | None
Known = dict[tuple[str, str, str], Metric]

METRICS = ("auc", "sensitivity")
SAME = 5e-6  # values in the files of metrics are rounded to six digits


def shown_elsewhere(
    pooled: Mapping[str, Row], calibration: Sequence[Row], at_half: Sequence[Row], classes: Sequence[str]
) -> Known:
    """Collect the metrics of single classes that other tables of the page show, by scope, class and metric.

    Parameters
    ----------
    pooled : mapping
        Metrics by scope and state ("internal_calibrated"). Of two classes, they are those of the second one, and its
        specificity is the sensitivity of the first.
    calibration : sequence of mapping
        Rows of the table of calibration: scope, state, of, and auc with its limits.
    at_half : sequence of mapping
        Of a multilabel task the rows of the table of thresholds at one half: scope, of, and sensitivity with limits.
    classes : sequence of str
        The two classes of a binary task, otherwise none.
    """
    known = [row for row in calibration if row["state"] == "calibrated"]
    found: Known = {(row["scope"], question_of(row), "auc"): metric_of(row, "auc") for row in known}
    found |= {(row["scope"], question_of(row), "sensitivity"): metric_of(row, "sensitivity") for row in at_half}
    for name, metrics in pooled.items():
        scope, _, state = name.rpartition("_")
        for label, recall in zip(classes, ("specificity", "sensitivity"), strict=False):
            if state == "calibrated":
                found |= {(scope, label, "auc"): metrics["auc"], (scope, label, "sensitivity"): metrics[recall]}
    return found


def by_class(rows: Sequence[Row], scopes: Iterable[str], elsewhere: Known) -> list[dict[str, Any]]:
    """Give the metrics of each class, set by set, patients before images.

    A metric that the page shows elsewhere, too, gets the interval that it has there.

    Returns
    -------
    list of dict
        name, beside (whether images stand beside patients) and rows, each with auc and sensitivity as metrics.
    """
    known = list(scopes)
    sets = [
        {
            "name": set_name(scope),
            "beside": is_beside({"scope": scope}, known),
            "rows": [{**row, **{name: _agreed(row, name, elsewhere) for name in METRICS}} for row in some],
        }
        for scope, some in groupby(rows, key=lambda row: row["scope"])
    ]
    return sorted(sets, key=lambda one: bool(one["beside"]))


def _agreed(row: Row, name: str, elsewhere: Known) -> Metric:
    own, other = metric_of(row, name), elsewhere.get((row["scope"], row["class"], name))
    return other if own and other and abs(own["value"] - other["value"]) < SAME else own


def confusions(cases: Sequence[Row], classes: Sequence[str], units: Mapping[str, str]) -> list[dict[str, Any]]:
    """Compute the confusion matrix of the most probable class, calibrated.

    Parameters
    ----------
    cases : sequence of mapping
        scope, label and probability_0 ... of each evaluated case.
    classes : sequence of str
        In the order of the probabilities.
    units : mapping
        The scopes that are shown, with what is counted in each ("patients" or "images").

    Returns
    -------
    list of dict
        name, beside, unit, n, and rows of name, n, and counts in the order of the classes; a class without a case
        has a row of zeros.
    """
    counts = Counter((row["scope"], row["label"], most_probable(row, classes)) for row in cases)
    found = []
    for scope, unit in units.items():
        matrix = {name: [counts[scope, name, other] for other in classes] for name in classes}
        rows = [{"name": name, "counts": row, "n": sum(row)} for name, row in matrix.items()]
        head = {"name": set_name(scope), "beside": is_beside({"scope": scope}, units), "unit": unit}
        found.append({**head, "n": sum(map(sum, matrix.values())), "rows": rows})
    return sorted((one for one in found if one["n"]), key=lambda one: bool(one["beside"]))


def most_probable(row: Row, classes: Sequence[str]) -> str:
    """Name the class of the highest probability, the first of equal ones."""
    return max(
        zip(classes, (float(row[f"probability_{k}"]) for k in range(len(classes))), strict=True), key=itemgetter(1)
    )[0]
