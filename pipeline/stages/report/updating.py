"""In words, how many labelled patients of a new site pay for an update of the calibration there."""

from collections.abc import Sequence
from typing import Any

from pipeline.stages.report.blocks import Row, set_name

NONE = "none"
SURE = 2.0  # standard errors of the mean gain over draws


def when_it_pays(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Put one table of updates into a grid, and say from how many patients on each of them pays.

    Parameters
    ----------
    rows : sequence of mapping
        Of one question and one level: scope, update ("none" is the calibrator as it is), patients, evaluated, draws,
        share_better, and gain, intercept_off and slope.

    Returns
    -------
    list of dict
        Of each set of cases: its name, `before` (the row of no update), `updates`, `grid` (rows of patients and of the
        cells of each update), and `said`, one sentence for each update.
    """
    found = []
    for scope in dict.fromkeys(row["scope"] for row in rows):
        own = [row for row in rows if row["scope"] == scope]
        updates = list(dict.fromkeys(row["update"] for row in own if row["update"] != NONE))
        sizes = sorted({row["patients"] for row in own if row["update"] != NONE})
        grid = [{"patients": size, "cells": [cell(own, update, size) for update in updates]} for size in sizes]
        before = next(row for row in own if row["update"] == NONE)
        said = [sentence(update, [row for row in own if row["update"] == update]) for update in updates]
        found.append({"name": set_name(scope), "before": before, "updates": updates, "grid": grid, "said": said})
    return found


def cell(rows: Sequence[Row], update: str, size: int) -> Row:
    """Find the row of an update fitted on so many patients."""
    return next(row for row in rows if (row["update"], row["patients"]) == (update, size))


def sentence(update: str, rows: Sequence[Row]) -> str:
    """Say from how many patients on an update gains more than `SURE` standard errors, at every size that was tried."""
    ordered = sorted(rows, key=lambda row: row["patients"])
    pays = [row["gain"] - SURE * row["gain_se"] > 0 for row in ordered]
    failed = max((number for number, paid in enumerate(pays) if not paid), default=-1)
    if failed == len(pays) - 1:
        return f"updating the {update} does not pay with up to {ordered[-1]['patients']:.0f} patients"
    return f"updating the {update} pays from {ordered[failed + 1]['patients']:.0f} patients on"
