"""What the page says of fine-tuning: the recipe that each fold got, and what was tried before it was chosen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

AVERAGES = {
    "none": "",
    "ema": "Epochs are evaluated and kept with the moving average of the weights (ema).",
    "soup": "The kept weights are the mean of good epochs, starting with the best one, which is named here (soup).",
}


def recipes(
    records: Mapping[str, Row | None], curves: Mapping[str, Sequence[Row]], final: str, average: str
) -> dict[str, Any]:
    """Collect what finetuning.html shows.

    Parameters
    ----------
    records : mapping
        Fold to its recipe.json, None where there is none.
    curves : mapping
        Fold to the rows of its history.csv, each with epoch and best.
    final : str
        The fold that is released.
    average : {"none", "ema", "soup"}
    """
    known = {fold: record for fold, record in records.items() if record}
    rows = [{"fold": fold, **epochs(curves[fold]), **in_words(record)} for fold, record in records.items()]
    return {
        "rows": rows,
        "searches": searches(known),
        "difference": difference({fold: record["strategy"] for fold, record in known.items()}, final),
        "average": AVERAGES[average] if any(row["run"] for row in rows) else "",
    }


def epochs(curve: Sequence[Row]) -> dict[str, int]:
    """Count the epochs that were run, and find the one that was kept: the last that was better than all before it."""
    return {"run": curve[-1]["epoch"], "kept": max(row["epoch"] for row in curve if row["best"])}


def in_words(record: Row | None) -> dict[str, str]:
    """Name a recipe, what cross-validation set in its head, and how it came about; nothing where it is not recorded."""
    if record is None:
        return {"strategy": "", "head": "", "why": ""}
    return {"strategy": record["strategy"], "head": head_of(record), "why": why_of(record)}


def head_of(record: Row) -> str:
    """Say how the head was fitted: by how many votes, or at which C of the probe."""
    if "neighbours" in record:
        votes = record["neighbours"]
        return f"{votes} neighbour{'' if votes == 1 else 's'}"
    return f"C = {record['C']:.2g}" if "C" in record else "trained from scratch"


def why_of(record: Row) -> str:
    """Say how a fold came to its recipe."""
    asked, strategy, tried = record["asked"], record["strategy"], record["tried"]
    if tried:
        count = len(evaluated(tried))
        return f"chosen among {count} tried" if count else "the probe, since no recipe fitted into the budget"
    if asked == strategy:
        return "set by finetune.strategy"
    if strategy == "lp_ft":
        return "not selected: the alignment loss of adaptation needs fine-tuning"
    return f"instead of {asked}: the encoder stays frozen, since it has parameters for each site"


def evaluated(tried: Sequence[Row]) -> list[Row]:
    """Leave out what was never begun."""
    return [step for step in tried if step["loss"] is not None]


def searches(records: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Collect what was tried in each fold in which the recipe was chosen among several."""
    return [
        {
            "fold": fold,
            "strategy": record["strategy"],
            "steps": record["tried"],
            "count": len(evaluated(record["tried"])),
        }
        for fold, record in records.items()
        if record["tried"]
    ]


def difference(strategies: Mapping[str, str], final: str) -> dict[str, Any] | None:
    """Count the recipes of the folds that are evaluated, where not all got the same one, or the released model another.

    Returns
    -------
    dict, optional
        counts, from recipe to folds, the most frequent first; folds, how many there are; released, the recipe of the
        released model (empty where there is none), and alike, in how many folds it is the same. None where all agree.
    """
    if len(set(strategies.values())) < 2:
        return None
    counts = Counter(strategy for fold, strategy in strategies.items() if fold != final)
    released = strategies.get(final, "")
    return {
        "counts": dict(counts.most_common()),
        "folds": counts.total(),
        "released": released,
        "alike": counts[released],
    }
