"""What the page shows class by class: the metrics of each, and the confusion matrix."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from pipeline.stages.report.blocks import Row, is_beside, set_name
from pipeline.stages.report.numbers import metric_of

METRICS = ("auc", "sensitivity")


def by_class(rows: Sequence[Row], scopes: Iterable[str]) -> list[dict[str, Any]]:
    """Give the metrics of each class, set by set, patients before images.

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
            "rows": [{**row, **{name: metric_of(row, name) for name in METRICS}} for row in some],
        }
        for scope, some in groupby(rows, key=lambda row: row["scope"])
    ]
    return sorted(sets, key=lambda one: bool(one["beside"]))


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
