"""The verdicts in words: for each promise and comparison whether it was kept, by how much, and what could be seen."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from pipeline.stages.report.blocks import Row
from pipeline.stages.report.numbers import estimate

COMPARISONS = {"adaptation": "adapted against ImageNet", "transfer": "ImageNet against from scratch"}
PROMISES = {  # by number: in plain words, and what was measured
    1: ("As good with fewer labelled patients", "AUC at smaller shares of the patients, mean difference:"),
    2: ("As good after a shorter training", "Speed-up, in image passes:"),
    3: ("Less overfitting", "Gap from training to held-out log-loss, smaller by:"),
    4: ("Better at sites that it was not trained on", ""),
    5: ("Better in the end, with all patients", ""),
}
MEASURES = {"auc": ("AUC", "higher"), "log_loss": ("log-loss", "lower")}  # how a metric gets better
SETS = {
    "external": "external test set",
    "test": "test set",
    "left out": "sites left out of training",
    "internal": "internal validation",
}
SPEED = 2  # the promise that is measured by a ratio
SAID = {"hurt": "harmed", "helped": "helped with", "no evidence": "no evidence for", "not measured": "not measured:"}
MANY = 2  # comparisons without evidence that a sentence names
RECIPES = {"probe": "probe on frozen features", "trained": "training"}


def summary(verdicts: Sequence[Row], comparison: str) -> str:
    """Say in one sentence where a comparison hurt, where it helped, and where neither is known; harms come first.

    Parameters
    ----------
    verdicts : sequence of mapping
        Rows of comparison, name, scope, metric and verdict.
    comparison : {"adaptation", "transfer"}
    """
    named: dict[str, list[str]] = {verdict: [] for verdict in SAID}
    for row in verdicts:
        if row["comparison"] == comparison:
            named[row["verdict"]].append(f"{row['name']}{_evaluated_by(row, ' (', ')')}")
    if not any(names for verdict, names in named.items() if verdict != "not measured"):
        return f"{comparison.capitalize()}: not measured."
    unknown = named["no evidence"]
    named["no evidence"] = unknown[:MANY] + [f"{len(unknown) - MANY} more"] * (len(unknown) > MANY)
    parts = [f"{SAID[word]} {', '.join(names)}" for word, names in named.items() if names]
    return f"{comparison.capitalize()}: {'; '.join(parts)}."


def multiplicity(verdicts: Sequence[Row], confidence: float) -> str:
    """Say how many of the verdicts would be wrong by chance if nothing helped and nothing hurt.

    There is no correction for multiple testing: each interval holds by itself, at the level `confidence`.
    """
    count = sum(row["verdict"] != "not measured" for row in verdicts)
    if count < MANY:
        return ""
    wrong = count * (1 - confidence)
    return (
        f"Each of these {count} verdicts stands alone, without a correction for multiple testing: if nothing helped or "
        f"hurt, {wrong:.1f} of them would be wrong on average."
    )


def promises(verdicts: Sequence[Row]) -> list[dict[str, Any]]:
    """Put the verdicts of each promise side by side, the cells of each of `COMPARISONS` together."""
    names = {row["promise"]: row["name"] for row in verdicts}
    return [
        {
            "number": number,
            "name": name,
            "plain": PROMISES[number][0],
            "cells": {
                comparison: [
                    verdict_cell(row) for row in verdicts if (row["promise"], row["comparison"]) == (number, comparison)
                ]
                for comparison in COMPARISONS
            },
        }
        for number, name in sorted(names.items())
    ]


def verdict_cell(row: Row) -> dict[str, Any]:
    """Describe one verdict: the measure, its value with the interval, and the smallest detectable difference."""
    of_speed = row["promise"] == SPEED
    style = ".2f" if of_speed else "+.3f"
    detectable = row["minimum_detectable"]
    return {
        "verdict": row["verdict"],
        "kind": row["verdict"].replace(" ", "-"),
        "measure": PROMISES[row["promise"]][1] or f"{_evaluated_by(row)} {_better(row)} by:".strip(),
        "measured": row["verdict"] != "not measured",
        "metric": shown(row, style),
        "detectable": "" if detectable is None else f"{detectable:.{2 if of_speed else 3}f}",
        "recipe": recipe_name(row["recipe"]),
        "counts": _counts(row),
        "why": row["why"],
    }


def shown(row: Row, style: str = "+.3f", name: str = "value") -> Markup:
    """Write a metric and, in small print, its interval, of which one end may be open.

    Parameters
    ----------
    row : mapping
        With the column `name`, and `lower` and `upper`, any of them None.
    style : str
        As `format` takes it.
    """
    return estimate(row[name], row["lower"], row["upper"], style=style)


def recipe_name(recipe: str) -> str:
    """Name a way of training as the page does."""
    return RECIPES.get(recipe, recipe)


def _evaluated_by(row: Row, before: str = "", after: str = "") -> str:
    """Name the set and the metric of a verdict, if its promise has several."""
    if not row["scope"]:
        return ""
    return f"{before}{SETS[row['scope']]}, {MEASURES[row['metric']][0]}{after}"


def _better(row: Row) -> str:
    return MEASURES[row["metric"]][1] if row["metric"] in MEASURES else ""


def _counts(row: Row) -> str:
    if row["n"] is None:
        return ""
    return f"n = {row['n']:.0f} cases" + ("" if row["patients"] is None else f" of {row['patients']:.0f} patients")
