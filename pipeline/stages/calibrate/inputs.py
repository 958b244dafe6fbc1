"""Describe the columns that the model takes: values, missing shares by class and site, and what each tells alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.columns import InputColumn
from pipeline.metrics.evaluation import EvaluatedCases, aucs_of, evaluated_by, other_folds
from pipeline.metrics.fusion import Fusion
from pipeline.metrics.subgroups import COLUMN, as_text
from pipeline.stages.calibrate.fusing import fitted_on

INPUTS = [
    "column",
    "kind",
    "by",
    "value",
    "n",
    "missing",
    "values",
    "auc",
    "refused",
]  # without classes r2 or c: no auc
COMMON = 5  # categories that are counted; the others are summed up

Marks = NDArray[np.bool_]


def inputs_table(
    cases: pd.DataFrame,
    columns: Sequence[InputColumn],
    of_classes: Mapping[str, Marks],
    *,
    alone: Callable[[InputColumn], float],
    released: Fusion,
    test: pd.DataFrame | None,
    metric: str = "auc",
) -> pd.DataFrame:
    """Tabulate each column over all held-out cases, over those of each class and of each site, and over the test set.

    Parameters
    ----------
    cases, test : pandas.DataFrame
        Held-out cases (n), and those of the test set if it is shown, with the columns and `site`.
    columns : sequence of InputColumn
    of_classes : mapping
        Marks (n,) of the cases of each class; empty without classes.
    alone : callable
        The `metric` of a prediction from one column alone.
    released : Fusion
    metric : {"auc", "r2", "c"}

    Returns
    -------
    pandas.DataFrame
        Columns `INPUTS`, with `metric` in the place of `auc`. `by` is "all", "class", "site" or "test"; `missing`
        counts cases without a value; `values` is the median with quartiles, or the counts of categories; `auc`, of all
        held-out cases, is `alone`; `refused`, of the test set, counts cases whose value `predict` would refuse, since
        no development case was like it.
    """
    rows = [row for column in columns for row in _rows(cases, column, of_classes, {metric: alone(column)})]
    for number, column in enumerate(columns):
        if test is None:
            break
        texts = as_text(test[COLUMN + column.name]).tolist()
        refused = sum(bool(released.columns[number].flaw_of(text)) for text in texts)
        everyone = np.ones(len(texts), dtype=bool)
        rows.append(_row(column, texts, everyone) | {"by": "test", "value": "", "refused": refused})
    return pd.DataFrame(rows, columns=[metric if name == "auc" else name for name in INPUTS])


def _rows(
    cases: pd.DataFrame, column: InputColumn, of_classes: Mapping[str, Marks], alone: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    texts, everyone = as_text(cases[COLUMN + column.name]).tolist(), np.ones(len(cases), dtype=bool)
    yield _row(column, texts, everyone) | {"by": "all", "value": "", **alone}
    for name, of_class in of_classes.items():
        yield _row(column, texts, of_class) | {"by": "class", "value": name}
    sites = cases["site"].to_numpy(dtype=str)
    for site in sorted(set(sites.tolist())):
        yield _row(column, texts, sites == site) | {"by": "site", "value": site or "(none)"}


def marks_of_classes(held_out: EvaluatedCases, classes: Sequence[str]) -> dict[str, Marks]:
    """Mark the cases (n,) of each class."""
    labels = held_out.labels
    return {
        name: np.asarray(labels[:, number] == 1 if labels.ndim == 2 else labels == number)
        for number, name in enumerate(classes)
    }


def _row(column: InputColumn, texts: Sequence[str], some: Marks) -> dict[str, Any]:
    own = [text for text, wanted in zip(texts, some, strict=True) if wanted]
    known = {"column": column.name, "kind": column.kind, "n": len(own), "missing": sum(text == "" for text in own)}
    return known | {"values": _in_words(column, own)}


def _in_words(column: InputColumn, texts: Sequence[str]) -> str:
    """Write the median with quartiles, or the most frequent categories with their counts."""
    numbers = column.numbers(texts)
    given = numbers[np.isfinite(numbers)]
    if not len(given):
        return ""
    if column.kind == "numeric":
        low, median, high = np.quantile(given, [0.25, 0.5, 0.75])
        return f"{median:.4g} ({low:.4g} to {high:.4g})"
    counts = np.bincount(given.astype(int), minlength=len(column.categories))
    places = range(len(counts)) if column.kind == "ordered" else np.argsort(-counts, kind="stable")[:COMMON]
    said = [f"{column.categories[place]} {counts[place]}" for place in places]
    others = int(counts.sum() - sum(counts[place] for place in places))
    return ", ".join([*said, *([f"others {others}"] if others else [])])


def auc_alone(held_out: EvaluatedCases, column: InputColumn) -> float:
    """Compute the macro AUC of predictions from one column, each fold by a fit on the others; NaN if there is none."""
    found = np.zeros_like(held_out.calibrated)
    for fold, others in other_folds(held_out).items():
        here = held_out.folds == fold
        part = held_out.part(here)
        found[here] = evaluated_by(fitted_on(others, [column], with_image=False), part.cases, part.labels).calibrated
    return float(aucs_of(found, held_out.labels, np.ones((1, len(found))))[0])
