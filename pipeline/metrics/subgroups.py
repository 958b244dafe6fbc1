"""Subgroup analysis: the metrics of a classifier by site, sex, age band, or any other column of the cohort."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bands import band
from pipeline.metrics.bootstrap import estimate, in_blocks
from pipeline.metrics.calibration import observed_expected
from pipeline.metrics.discrimination import roc_auc
from pipeline.metrics.levels import factor_of
from pipeline.metrics.likelihood import slope_estimate
from pipeline.metrics.paired_tests import minimum_detectable_difference
from pipeline.metrics.shares import auc_estimate, share_of
from pipeline.metrics.summary import in_columns, limits_of

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Words = NDArray[np.str_]

COLUMN = "column_"  # prefix of the additional columns of the cohort in a table of cases
NOT_GIVEN = "not given"
AGES = ("age", "age_years")
AGE_EDGES = (18.0, 40.0, 60.0, 80.0)
OLDEST = 120  # years; higher ages are in months or days
FEW = 6  # a column with at most this many distinct numbers holds codes or levels (field strength): no bands
METRICS = ("share", "auc", "calibration_slope", "observed_expected", "auc_difference")
SUBGROUPS = [
    *("column", "value", "n", "patients", "events", "too_few"),
    *limits_of(*METRICS),
    *("minimum_detectable_difference", "p_simultaneous", "comparisons"),
]


def groups_of(cases: pd.DataFrame) -> dict[str, Words]:
    """Assign each case to a group of every column: its site, and the bands of each additional column.

    Parameters
    ----------
    cases : pandas.DataFrame
        n rows with `site` and any number of `column_<name>`. Pass the whole cohort, so that bands have the same edges
        in every table.

    Returns
    -------
    dict of (n,) str
        By the name of the column, "site" first; missing values are `NOT_GIVEN`.
    """
    further = [column for column in cases if column.startswith(COLUMN)]
    return {column.removeprefix(COLUMN): bands(cases[column]) for column in ["site", *further]}


def bands(column: "pd.Series[Any]") -> Words:
    """Group the values of a column: words by value, numbers by bands.

    Ages (columns `age` and `age_years`) are cut at `AGE_EDGES`, other numbers into thirds at edges of three significant
    digits, so that no edge is the value of a patient; up to `FEW` distinct numbers are treated as words.

    Returns
    -------
    (n,) str
        Such as "40 to under 60"; `NOT_GIVEN` for a missing value.
    """
    text, name = as_text(column), str(column.name).removeprefix(COLUMN).lower()
    if name == "site" or not is_measured(text):
        return np.where(text == "", NOT_GIVEN, text).astype(np.str_)
    numbers = pd.to_numeric(text).to_numpy(dtype=np.float64)
    in_years = name in AGES and np.nanmax(numbers) <= OLDEST
    edges = AGE_EDGES if in_years else [float(f"{edge:.3g}") for edge in np.nanquantile(numbers, [1 / 3, 2 / 3])]
    return np.where(np.isnan(numbers), NOT_GIVEN, cut(numbers, np.unique(edges)))


def cut(numbers: Floats, edges: Floats) -> Words:
    """Name the band of each number (n,) between ascending edges; an edge belongs to the band above it."""
    between = [f"{low:g} to under {high:g}" for low, high in pairwise(edges)]
    names = [f"under {edges[0]:g}", *between, f"{edges[-1]:g} and over"]
    return np.array(names, dtype=np.str_)[np.searchsorted(edges, numbers, side="right")]


def as_text(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Convert a column to text, however it was parsed; missing values become empty."""
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def is_measured(text: "pd.Series[str]") -> bool:
    """Check whether a column holds measurements: every given value is a number, with more than `FEW` distinct ones."""
    numbers = pd.to_numeric(text[text != ""], errors="coerce")
    return bool(np.isfinite(numbers).all() and numbers.nunique() > FEW)


def subgroup_table(
    groups: Mapping[str, Words],
    prediction: Floats,
    events: Marks,
    patients: Words,
    *,
    weights: Floats,
    confidence: float,
    least: int = 10,
) -> pd.DataFrame:
    """Tabulate the metrics of each group of each column, and the difference of its AUC from that of all other cases.

    Parameters
    ----------
    groups : mapping of (n,) str
        As `groups_of` gives them, for the n cases of one question.
    prediction, events : (n,)
        See `questions.Question`.
    patients : (n,) str
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`; all rows share its replicates.
    least : int
        Minimum number of patients with an event, and with a non-event; a group with fewer is `too_few`.

    Returns
    -------
    pandas.DataFrame
        Columns `SUBGROUPS`. A group that is `too_few` has counts but no metrics. `share` is the event rate (for the
        question "top label" the accuracy). `minimum_detectable_difference` is found with a power of 80 %.
        `auc_difference` is the AUC of the group minus that of all other cases on the same replicates; its interval is
        not adjusted for the number of comparisons, of which one in twenty excludes 0 by chance. `p_simultaneous` is
        adjusted for all `comparisons` of the table, see `simultaneous_p`. It compares arcsines of square roots, because
        an AUC near 1 has a small standard error (in 300 simulated tables of 12 groups of 60 without a difference, 17 %
        had a p below 0.05 on the scale of the AUC, and 6 % on this one).
    """
    rows, aucs = [], []
    for column, value, inside in cells_of(groups):
        few, lonely = (is_too_few(events[part], patients[part], least) for part in (inside, ~inside))
        row = {"column": column, "value": value, **counts_of(events[inside], patients[inside]), "too_few": few}
        cells = (prediction[inside], events[inside], patients[inside])
        metrics = {} if few else metrics_of(*cells, weights=weights[:, inside], confidence=confidence)
        rows.append(row | metrics)
        none = np.full((2, len(weights)), np.nan)
        aucs.append(none if few or lonely else aucs_of(inside, prediction, events, weights))
    table, (of_group, of_rest) = pd.DataFrame(rows, columns=SUBGROUPS), np.stack(aucs, axis=-1)
    width = np.sqrt(factor_of(confidence))
    adjusted = simultaneous_p(np.arcsin(np.sqrt(of_group)) - np.arcsin(np.sqrt(of_rest)), width)
    apart, comparisons = of_group - of_rest, comparisons_in(table, np.isfinite(of_group[0]))
    found = band("auc_difference", apart, confidence)
    drawn = [column[np.isfinite(column)] for column in apart[1:].T]
    least_found = [minimum_detectable_difference(width * np.std(some)) if len(some) else np.nan for some in drawn]
    known = {"minimum_detectable_difference": least_found, "p_simultaneous": adjusted, "comparisons": comparisons}
    return table.assign(**found, **known)


def cells_of(groups: Mapping[str, Words]) -> Iterator[tuple[str, str, Marks]]:
    """Yield each group of each column with the mask (n,) of its cases, in the order of `band_order`."""
    for column, of_case in groups.items():
        for value in sorted(set(of_case.tolist()), key=band_order):
            yield column, value, of_case == value


def band_order(value: str) -> tuple[bool, float, str]:
    """Give the sort key of a group: bands by their lower edge, words alphabetically, missing values last."""
    number = re.match(r"-?\d+(\.\d+)?(e[+-]\d+)?", value)
    return value == NOT_GIVEN, -np.inf if value.startswith("under ") else float(number[0]) if number else 0.0, value


def is_too_few(events: Marks, patients: Words, least: int) -> bool:
    """Check whether fewer than `least` patients have an event, or have a non-event."""
    return min(len(set(patients[events])), len(set(patients[~events]))) < least


def counts_of(events: Marks, patients: Words) -> dict[str, int]:
    """Count cases, patients, and cases with an event."""
    return {"n": len(events), "patients": len(set(patients)), "events": int(events.sum())}


def metrics_of(
    prediction: Floats, events: Marks, patients: Words, *, weights: Floats, confidence: float
) -> dict[str, Any]:
    """Compute the metrics of one group with their intervals, in columns."""
    areas = in_blocks(partial(roc_auc, prediction, events), weights)
    found = {
        "share": share_of(events, np.ones(len(events)), patients, weights=weights, confidence=confidence),
        "auc": auc_estimate(areas, events, patients, confidence),
        "calibration_slope": slope_estimate(prediction, events, patients, confidence),
        "observed_expected": estimate(partial(observed_expected, prediction, events), weights, confidence),
    }
    return in_columns({name: one.as_json() for name, one in found.items()})


def aucs_of(inside: Marks, prediction: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the AUC of the cases inside and outside a group, on the same replicates (2, R)."""
    return np.stack([roc_auc(prediction[part], events[part], weights[:, part]) for part in (inside, ~inside)])


def comparisons_in(table: pd.DataFrame, counted: Marks) -> int:
    """Count the comparisons of a table; a column of two groups has one comparison."""
    of_column = table[counted].groupby("column").size()
    groups = table.groupby("column").size()
    return int(sum(n // 2 if groups[column] == 2 else n for column, n in of_column.items()))


def simultaneous_p(differences: Floats, width: float = 1.0) -> Floats:
    """Compute p-values of several differences, adjusted for testing all of them.

    Single-step max-t of Westfall and Young (1993, "Resampling-based multiple testing", section 2.3), on the bootstrap
    distribution centred at the observed differences: unlike Bonferroni's, the adjustment takes the correlation of the
    differences into account, such as that of the two groups of one column.

    Parameters
    ----------
    differences : (1 + R, m)
        Observed differences in the first row, bootstrap replicates in the others; NaN for a missing difference.
    width : float
        By how much the standard errors exceed those of the replicates.

    Returns
    -------
    (m,)
        At least 1 / (1 + R); NaN for a missing difference.
    """
    found, drawn = differences[0], differences[1:]
    error = np.array(
        [np.std(one[np.isfinite(one)], ddof=1) if np.isfinite(one).sum() > 1 else np.nan for one in drawn.T]
    )
    there = np.isfinite(found) & (error > 0)
    if not there.any():
        return np.full(len(found), np.nan)
    by_chance = np.abs(drawn - found)[:, there] / error[there]
    highest = width * np.max(by_chance, axis=1, initial=0, where=np.isfinite(by_chance))
    p = np.full(len(found), np.nan)
    p[there] = (1 + (highest[:, None] >= np.abs(found[there]) / error[there]).sum(axis=0)) / (1 + len(drawn))
    return p
