"""Histograms of grey values, one pair of charts for each site: before preprocessing and after."""

import math
from collections.abc import Sequence
from typing import Any

from pipeline.stages.report.blocks import Row
from pipeline.stages.report.plots import Axes, Column, chart

STATES = {"before": ("Before, in the scan's own units", 4), "after": ("After, as stored", 1)}
HEIGHT = 170
ROOM = 1.08  # above the tallest column that is drawn whole
DARK = 0.15  # of the range, in whose bins air lies


def site_histograms(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Draw the histograms of each site.

    Air would flatten all else: columns are cut at the tallest one that is not among the darkest, and the caption says
    how much lies in those that are cut. Stored grey values have one range and one scale for all sites; a scan's own
    units do not.

    Parameters
    ----------
    rows : sequence of mapping
        site, state ("before", "after"), cases, low, high, count: one for each bin, in their order.

    Returns
    -------
    dict
        Site to its charts: svg, caption, rows (low, high, share in [0, 1]).
    """
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((row["site"] or "", row["state"]), []).append(row)
    shares = {key: _shares(bins) for key, bins in parts.items()}
    stored = max((_height(found) for (_, state), found in shares.items() if state == "after"), default=1.0)
    charts: dict[str, list[dict[str, Any]]] = {}
    for (site, state), bins in parts.items():
        top = stored if state == "after" else _height(shares[site, state])
        charts.setdefault(site, []).append(_histogram(site, state, bins, shares[site, state], top=top))
    return charts


def _shares(bins: Sequence[Row]) -> list[float]:
    total = sum(int(row["count"]) for row in bins)
    return [int(row["count"]) / total for row in bins]


def _height(shares: Sequence[float]) -> float:
    """Take the tallest column that is not among the darkest; the tallest where these hold all."""
    return ROOM * (max(shares[math.ceil(DARK * len(shares)) :], default=0.0) or max(shares))


def _histogram(site: str, state: str, bins: Sequence[Row], shares: Sequence[float], top: float) -> dict[str, Any]:
    said, colour = STATES[state]
    limits = (0.0, 256.0) if state == "after" else (float(bins[0]["low"]), float(bins[-1]["high"]))
    axes = Axes("grey value", "% of values", limits, (0.0, 100 * top), height=HEIGHT, legend=False)
    columns = [
        Column(float(row["low"]), float(row["high"]), 0.0, 100 * min(share, top), colour=colour)
        for row, share in zip(bins, shares, strict=True)
    ]
    cut = [share for share in shares if share > top]
    told = f" (the tallest bars are truncated; they contain {100 * sum(cut):.0f} % of the values)" if cut else ""
    caption = f"{said}, {int(bins[0]['cases'])} cases{told}"
    table = [{"low": row["low"], "high": row["high"], "share": share} for row, share in zip(bins, shares, strict=True)]
    svg = chart(f"Grey values of {site or 'all cases'}. {caption}", axes, [], columns=columns)
    return {"svg": svg, "caption": caption, "rows": table}
