"""What the page shows of the most confident mistakes: images, where the network looked, and its attention."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from pipeline.stages.report.blocks import SETS, Row

METHODS = {"gradcam": "GradCAM", "occlusion": "occlusion", "none": "no map"}
BAR_HEIGHT = 26
FLAT = 1.25  # attention within this factor of equal shares is nearly the same everywhere


def mistakes_section(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Group the mistakes by the set that was evaluated, and take the texts of a row apart.

    Parameters
    ----------
    rows : sequence of mapping
        As the stage `explain` wrote them, those of a scope together.
    """
    return [
        {
            **{"scope": SETS[scope], "key": scope, "rows": [_mistake(row) for row in own]},
            **{"outside": outside_in_words(own), "inside": inside_in_words(own)},
        }
        for scope, some in groupby(rows, key=lambda row: row["scope"])
        for own in [list(some)]
    ]


def outside_in_words(rows: Sequence[Row]) -> str:
    """Count the errors with more than half of the saliency outside of the body; empty where that is not known."""
    known = [row for row in rows if row["outside"] is not None]
    if not known:
        return ""
    most = sum(row["outside"] > 0.5 for row in known)
    share = sum(row["background"] for row in known) / len(known)
    return (
        f"In {most} of {len(known)} errors more than half of the saliency lies outside of the body. The background "
        f"fills {share:.0%} of these images: a uniform map would have the same share there."
    )


def inside_in_words(rows: Sequence[Row]) -> str:
    """Say which share of the saliency lies inside of the masks; empty where no error has a mask."""
    known = [row for row in rows if row.get("inside") is not None]
    if not known:
        return ""
    inside, region = (sum(row[name] for row in known) / len(known) for name in ("inside", "region"))
    return (
        f"On average {inside:.0%} of the saliency of {len(known)} errors lies inside of the mask, "
        f"which fills {region:.0%} of what the network sees."
    )


def _mistake(row: Row) -> dict[str, Any]:
    attention = [float(share) for share in row["attention"].split(";")]
    told = {"gradcam": "bright where it looked", "occlusion": "bright where hiding a part took most from it"}
    return {
        **row,
        "told": told.get(row["method"], ""),
        "by": METHODS[row["method"]],
        "numbers": [int(number) for number in row["slices"].split(";")],
        "attention": attention_in_words(attention),
        "bars": _bars(attention, int(row["shown"])),
    }


def attention_in_words(shares: Sequence[float]) -> str:
    """Say between which shares the attention of the slices lies, and whether it is about equal for all."""
    low, high, equal = min(shares), max(shares), sum(shares) / len(shares)
    said = f"{low:.1%} to {high:.1%}"
    if high <= FLAT * equal and equal <= FLAT * low:
        return f"Attention is flat: {said} a slice, about the {equal:.1%} of equal shares, so it selects no slice"
    return f"Bars: attention, {said}"


def _bars(attention: Sequence[float], shown: int) -> Markup:
    """Draw the attention of each slice as a column under it, as wide as the strip; the one that is shown stands out."""
    most = max(attention) or 1.0
    columns = "".join(
        f'<rect class="column c{2 if place == shown else 1}" x="{10 * place + 1}" width="8" {_upright(share / most)}/>'
        for place, share in enumerate(attention)
    )
    title = f"Attention of each of {len(attention)} slices, {min(attention):.1%} to {max(attention):.1%}"
    size = f'viewBox="0 0 {10 * len(attention)} {BAR_HEIGHT}" preserveAspectRatio="none"'
    return Markup(f'<svg {size} role="img" class="bars"><title>{title}</title>{columns}</svg>')


def _upright(share: float) -> str:
    return f'y="{BAR_HEIGHT * (1 - share):.1f}" height="{BAR_HEIGHT * share:.1f}"'
