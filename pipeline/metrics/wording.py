"""Write a metric with its interval in words; a metric is never shown without it."""

from collections.abc import Mapping, Sequence
from typing import Any

TOO_FEW = "too few events for an interval"
COLUMNS, IMAGE, BOTH = "columns", "image", "image and columns"  # what a prediction is made from
ADDS, HARMS, NOT_SHOWN = "adds", "takes away", "not shown"  # verdicts on what the image adds
RISK = "risk_"  # begins the name of a column with the risk until a time
ALONE = {"auc": "AUC", "r2": "R²", "c": "C-index"}  # metrics of a column alone, by their name in tables
VERDICTS = {  # metrics by which that is said, by their name in tables
    "log_loss": "log-loss",
    "mae": "mean absolute error",
    "integrated_brier": "integrated Brier score",
}
ALIKE = "the same in every draw"
TELLS = 0.98  # AUC of one column alone from which it tells the label by definition rather than by chance
UNSTABLE = "unstable: predictions separate the classes"


def interval_in_words(lower: float | None, upper: float | None, *, style: str = ".2f", same: str = TOO_FEW) -> str:
    """Write an interval: "0.70 to 0.90", "from 0.70" or "up to 0.90"; empty where there is none.

    An interval has no width where all draws agree, as where every case is right: then it says nothing about chance.
    """
    if lower is not None and lower == upper:
        return same
    low, high = ("" if end is None else f"{end:{style}}" for end in (lower, upper))
    return f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}" if high else ""


def is_unstable(metric: Mapping[str, Any] | None) -> bool:
    """Tell whether a metric is infinite on these cases: it has no value, and its interval has one limit."""
    return metric is not None and metric["value"] is None and (metric["lower"] is None) != (metric["upper"] is None)


def metric_in_words(
    metric: Mapping[str, Any] | None, *, style: str = ".3f", same: str = TOO_FEW, absent: str = "-"
) -> str:
    """Write a metric with its interval.

    Parameters
    ----------
    metric : mapping or None
        `value`, `lower` and `upper`; None where it could not be computed. With one limit and no value it is `UNSTABLE`.
    style : str
        As `format` takes it.
    same, absent : str
        What is said in place of an interval without width, and of a metric that could not be computed.

    >>> metric_in_words({"value": 0.95412, "lower": 0.899, "upper": 0.998})
    '0.954 (0.899 to 0.998)'
    >>> metric_in_words({"value": 1.0, "lower": 1.0, "upper": 1.0})
    '1.000 (too few events for an interval)'
    >>> metric_in_words({"value": None, "lower": 3.1, "upper": None})
    'unstable: predictions separate the classes (from 3.100)'
    """
    if metric is None or metric["value"] is None:
        if metric is None or not is_unstable(metric):
            return absent
        return f"{UNSTABLE} ({interval_in_words(metric['lower'], metric['upper'], style=style)})"
    limits = interval_in_words(metric["lower"], metric["upper"], style=style, same=same)
    return f"{metric['value']:{style}} ({limits})" if limits else f"{metric['value']:{style}}"


def alone_in(row: Mapping[str, Any]) -> tuple[str, float | None]:
    """Give the metric of a prediction from a column alone, from its row of `inputs_table`: its name and its value."""
    name = next(one for one in ALONE if one in row)
    return ALONE[name], row[name]


def tells_the_label(columns: Sequence[Mapping[str, Any]]) -> str:
    """Say which columns predict the label almost by themselves, from the rows of `calibrate.inputs.inputs_table`."""
    known = [(row, *alone_in(row)) for row in columns if row["by"] == "all"]
    found = [one for one in known if (one[2] or 0) >= TELLS]
    said = ", ".join(f"'{row['column']}' ({metric} {value:.3f})" for row, metric, value in found)
    return (
        f"A column of cohort.inputs tells the label by itself: {said}. It may be known only after the diagnosis, as a "
        "pathology code is; take it out of cohort.inputs unless it is known when the model is used."
        if found
        else ""
    )
