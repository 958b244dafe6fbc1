"""What the page shows of the cohort: what the audit found, duplicate images, and a few images of each site."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.imaging.labels import LOG_HAZARD, VALUE
from pipeline.stages.report.blocks import Row

ACTIONS = ["refused", "excluded", "repaired", "warned"]
IMAGES_PER_SITE = 8
UNEVEN = 0.5  # difference of the shares with a mask between two classes from which it is told


def audit_findings(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Sum up what was found in the files, refusals first: what, in how many cases, what was done, what changes it.

    Parameters
    ----------
    found : pandas.DataFrame
        Rows of case, check, action (one of `ACTIONS`), parameter and detail.
    """
    ranked = found.assign(rank=found["action"].map(ACTIONS.index))
    groups = ranked.groupby(["rank", "check", "action", "parameter"], sort=True)
    return [
        {
            "check": check,
            "action": action,
            "parameter": parameter,
            "count": len(group),
            "cases": group[["case", "detail"]].to_dict("records"),
        }
        for (_, check, action, parameter), group in groups
    ]


def pairs_of_duplicates(pairs: Sequence[Row], thumbnails: "pd.Series[str]") -> list[dict[str, Any]]:
    """List the pairs of duplicate images, with their thumbnails.

    Parameters
    ----------
    pairs : sequence of mapping
        Each with `case`, `other` and how they are alike.
    thumbnails : pandas.Series
        PNG in base64 by case.
    """
    return [
        {**pair, "images": [{"case": pair[end], "thumbnail": thumbnails[pair[end]]} for end in ("case", "other")]}
        for pair in pairs
    ]


def masks_in_words(coverage: Sequence[Row]) -> list[str]:
    """Say how many cases of each class have a mask and how large it is, and whether having one tells the class.

    Parameters
    ----------
    coverage : sequence of mapping
        As `stages.cohort.masks.coverage_of` writes it: `label`, `cases`, `given`, `empty`, quartiles of `size`, `unit`.
    """
    said = [_coverage(row) for row in coverage]
    shares = [row["given"] / row["cases"] for row in coverage if row["label"]]
    if len(shares) > 1 and max(shares) - min(shares) >= UNEVEN:
        said.append(
            "Whether a case has a mask differs between the classes, and so tells the label: figures of a model that "
            "uses masks are too good for scans that come with a mask either way."
        )
    return said


def _coverage(row: Row) -> str:
    empty = f", {row['empty']} an empty one" if row["empty"] else ""
    size = ""
    if row["size"]:
        low, median, high = map(_in_digits, row["size"])
        size = f"; median size {median} {row['unit']}, quartiles {low} to {high}"
    who = f"cases of {row['label']}" if row["label"] else "unlabelled cases"
    who = {VALUE: "cases with a number", LOG_HAZARD: "cases with a time"}.get(row["label"], who)
    return f"Masks: {row['given']} of {row['cases']} {who} have one{empty}{size}."


def _in_digits(value: float) -> str:
    """Round to three digits, without an exponent.

    >>> _in_digits(48912.3), _in_digits(7.125)
    ('48900', '7.12')
    """
    return f"{float(f'{value:.3g}'):.12g}"


def sample(group: pd.DataFrame) -> list[dict[str, str]]:
    """Take a few cases of a site, of each label in turn."""
    turn = group.groupby("label").cumcount()
    chosen = group.assign(turn=turn).sort_values(["turn", "label"]).head(IMAGES_PER_SITE)
    return [{"label": row.label, "thumbnail": row.thumbnail} for row in chosen.sort_values("label").itertuples()]


def prevalences(flow: Sequence[Row], classes: Sequence[str]) -> str:
    """Say how frequent the last of two classes is at each site, where several have labels; otherwise nothing.

    Parameters
    ----------
    flow : sequence of mapping
        Rows of site, side and counts of each class.
    classes : sequence of str
    """
    known = [row for row in flow if sum(row["counts"])]
    if len(classes) != 2 or len(known) < 2:
        return ""
    said = [f"{row['site'] or '(none)'} {share(row)} ({row['side']})" for row in known]
    return f"Share of {classes[1]} among the labelled cases: {', '.join(said)}."


def share(row: Row) -> str:
    """Write the share of the last class as so many percent."""
    return f"{row['counts'][-1] / sum(row['counts']):.0%}"
