"""What the page says of adaptation: its methods in words, and the rows of its tables."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from pipeline.schema import ALIGNMENT_LOSSES
from pipeline.stages.report.numbers import metric_of

Row = Mapping[str, Any]

METHODS = {
    "none": "the encoder was not changed",
    "adabn": "the encoder's normalisation statistics were replaced by those of these images (AdaBN)",
    "adabn_per_site": "the encoder's normalisation statistics were replaced by those of each site (AdaBN per site)",
    "nyul": "the grey values of every image were mapped to one standard scale (Nyúl)",
    "histogram": "the histogram of every image was matched to the mean one of the training images",
    "combat": "shift and scale of each site were removed from every feature (ComBat)",
    "simclr": "pretraining continued without labels: two views of an image are matched against other images (SimCLR)",
    "vicreg": "pretraining continued without labels: two views of an image get similar, varied features (VICReg)",
    "byol": "pretraining continued without labels: one view of an image predicts another (BYOL)",
    "masked": "pretraining continued without labels: hidden image parts are reconstructed (masked image modelling)",
    "coral": "fine-tuning also aligned the feature covariances of the sites (CORAL)",
    "mmd": "fine-tuning also aligned the feature distributions of the sites (MMD)",
    "dann": "fine-tuning also made the sites indistinguishable to a second classifier (DANN)",
    "mcc": "fine-tuning also made the predictions for unlabelled images confuse classes less (MCC)",
}
SCORES = {  # of a candidate, without labels of the target, by the words that the page has for them
    "information_maximisation": "information maximisation",
    "soft_neighbourhood_density": "neighbourhood density",
    "deep_embedded_validation": "embedded validation",
}
VALIDATORS = {"source_loss": "source loss"} | SCORES
Z = 1.959963984540054


def section(
    records: Mapping[str, Row], told: str, metered: Mapping[str, Row | None], tables: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """Collect what adaptation.html shows, but for the images seen and the curves.

    Parameters
    ----------
    records : mapping
        Fold to its adaptation.json.
    told : str
        The fold that is told in words.
    metered : mapping
        Fold to its seconds and peak_mib, or None.
    tables : mapping
        The rows of `search`, `validators`, `left_out` and `collapses`; empty where there is nothing.
    """
    searched = searches(records)
    return {
        "words": in_words(records[told]),
        "provenance": records[told]["provenance"],
        "costs": costs(records, metered),
        "searches": searched,
        "choices": choices(searched),
        "scores": SCORES,
        "candidates": evaluated_candidates(tables["search"]),
        "validators": orders_of_candidates(tables["validators"]),
        "left_out": left_out_sites(tables["left_out"]),
        "never": never_recognised(tables["collapses"], records),
    }


def in_words(record: Row) -> dict[str, Any]:
    """Say what was done to one encoder.

    Parameters
    ----------
    record : mapping
        An adaptation.json; what an older one does not name was not done.

    Returns
    -------
    dict
        asked, method, what, how_far (empty where nothing was done), and what came on top, as numbers.
    """
    method = record["method"]
    on_top = {"filter_depth": 1, "test_time_steps": 0, "test_time_rate": 0, **record}
    return {
        "asked": record.get("asked", method),
        "method": method,
        "is_term": method in ALIGNMENT_LOSSES,
        "what": METHODS[method],
        "how_far": how_far(method, record["strength"]),
        **{name: on_top[name] for name in ("filter_depth", "test_time_steps", "test_time_rate")},
    }


def how_far(method: str, strength: float) -> str:
    """Say what a strength means: a share of the way, or the weight of a term in the loss."""
    if method == "none":
        return ""
    if strength == 0:
        return "at strength 0, which changes nothing"
    return f"with weight {strength:g} in the loss" if method in ALIGNMENT_LOSSES else f"{strength:.0%} of the way"


def costs(records: Mapping[str, Row], metered: Mapping[str, Row | None]) -> dict[str, Any]:
    """Tabulate what each fold's adaptation cost; a fold whose cost was not recorded has None.

    Returns
    -------
    dict
        rows of fold, method, images, seconds and peak_mib; the sum of seconds, the highest peak_mib, and how many
        folds they are of.
    """
    rows = [
        {"fold": fold, "method": record["method"], "images": record["images_seen"], "cost": metered[fold]}
        for fold, record in records.items()
    ]
    known = [row["cost"] for row in rows if row["cost"]]
    return {
        "rows": rows,
        "recorded": len(known),
        "seconds": sum(cost["seconds"] for cost in known),
        "peak_mib": max((cost["peak_mib"] for cost in known), default=0),
    }


def searches(records: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Collect the search of each fold in which the method was chosen among several."""
    return [
        {"fold": fold, "method": record["method"], "steps": record["search"]}
        for fold, record in records.items()
        if record.get("search")
    ]


def choices(searched: Sequence[Row]) -> list[dict[str, Any]]:
    """Say of each candidate, in the order of the search, in which folds it was chosen."""
    methods = dict.fromkeys(step["method"] for search in searched for step in search["steps"])
    return [
        {"candidate": method, "folds": [search["fold"] for search in searched if search["method"] == method]}
        for method in methods
    ]


def evaluated_candidates(table: Iterable[Row]) -> list[dict[str, Any]]:
    """Group the candidates, evaluated with labels afterwards, by set of cases; find the oracle's choice and the regret.

    Parameters
    ----------
    table : iterable of mapping
        Rows of scope, candidate, chosen_in, n, patients, events, oracle (true for the candidate of the lowest
        log-loss), and of auc, log_loss and (of the row "auto") regret with _lower and _upper.
    """
    sets = []
    for scope, rows in groupby(table, key=lambda row: row["scope"]):
        candidates = [{**row, "auc": metric_of(row, "auc"), "log_loss": metric_of(row, "log_loss")} for row in rows]
        auto = next(row for row in candidates if row["candidate"] == "auto")
        oracle = next(row["candidate"] for row in candidates if row["oracle"])
        counts = {name: auto[name] for name in ("n", "patients", "events")}
        sets.append(
            {"scope": scope, "candidates": candidates, "oracle": oracle, "regret": metric_of(auto, "regret"), **counts}
        )
    return sets


def orders_of_candidates(table: Sequence[Row]) -> dict[str, Any]:
    """Put the agreement of each score with the labels in a row, one cell for each set of cases.

    Parameters
    ----------
    table : sequence of mapping
        Rows of scope, validator, kendall_tau and candidates; every validator once in every scope.
    """
    names = [name for name in VALIDATORS if any(row["validator"] == name for row in table)]
    rows = [{"name": VALIDATORS[name], "cells": [row for row in table if row["validator"] == name]} for name in names]
    return {"scopes": list(dict.fromkeys(row["scope"] for row in table)), "rows": rows}


def left_out_sites(table: Iterable[Row]) -> list[dict[str, Any]]:
    """Put the metrics of each site that was left out side by side: its unlabelled images seen, and unseen.

    Parameters
    ----------
    table : iterable of mapping
        Rows of site, unlabelled, fold, n, patients, events, worst_recall, and of auc, log_loss and calibration_slope
        with _lower and _upper.
    """
    metrics = ("auc", "log_loss", "calibration_slope")
    named = [{**row, "site": row["site"] or "(none)"} for row in table]
    rows = sorted(named, key=lambda row: (row["site"], row["unlabelled"]))
    return [
        {"site": site, "rows": [{**row, **{name: metric_of(row, name) for name in metrics}} for row in group]}
        for site, group in groupby(rows, key=lambda row: row["site"])
    ]


def never_recognised(table: Iterable[Row], records: Mapping[str, Row]) -> dict[str, Any]:
    """Word the warnings of classes of which no case was recognised.

    Parameters
    ----------
    table : iterable of mapping
        Rows of scope, class, n and recall.

    Returns
    -------
    dict
        rows, each with the upper limit `at_most` of Wilson's 95 % interval (1927) of a share of 0 of n, which is
        z^2 / (n + z^2), and the folds in which dann was at work.
    """
    rows = [{**row, "at_most": Z**2 / (row["n"] + Z**2)} for row in table]
    return {"rows": rows, "dann": [fold for fold, record in records.items() if record["method"] == "dann"]}
