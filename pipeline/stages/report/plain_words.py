"""The metrics of calibration in sentences that need no statistics: of a hundred patients, so many."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.metrics.wording import interval_in_words
from pipeline.stages.report.blocks import TOP_LABEL, Row

LIMITS = ("", "_lower", "_upper")
WISHED = (0.2, 0.8)  # predictions that are told, if any were made near them
ROUND = (0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95)


def of_hundred(curve: Sequence[Row], question: str, unit: str) -> list[str]:
    """Say of two round predictions how often the event happened.

    Parameters
    ----------
    curve : sequence of mapping
        Rows of prediction (rising) and observed with _lower and _upper, of the calibrated predictions.
    question : str
        The class or label, or "top label".
    unit : str
        What is counted: "patients" or "images".

    Returns
    -------
    list of str
        One sentence for each prediction near which the curve is known; none where it is known nowhere.
    """
    top = question == TOP_LABEL
    whose = "whose most probable class is given" if top else f"with a predicted probability of “{question}” of"
    have = "belong to that class" if top else f"have “{question}”"
    return [
        f"Of 100 {unit} {whose} about {100 * prediction:.0f} %, about {_happened(curve, prediction)} {have}."
        for prediction in told(curve)
    ]


def _happened(curve: Sequence[Row], prediction: float) -> str:
    return of_hundred_cases(*(along(curve, prediction, f"observed{end}") for end in LIMITS))


def told(curve: Sequence[Row]) -> list[float]:
    """Choose the round predictions to tell: of those within the curve, the nearest to each of `WISHED`."""
    predictions = [row["prediction"] for row in curve if row["observed"] is not None]
    within = [prediction for prediction in ROUND if predictions and min(predictions) <= prediction <= max(predictions)]
    return sorted({min(within, key=lambda one: abs(one - wished)) for wished in WISHED}) if within else []


def along(curve: Sequence[Row], prediction: float, column: str) -> float | None:
    """Read a curve at a prediction, between whose points it is straight; None where it has no value."""
    known = [row for row in curve if row[column] is not None]
    if not known:
        return None
    return float(np.interp(prediction, [row["prediction"] for row in known], [row[column] for row in known]))


def of_hundred_cases(share: float | None, lower: float | None, upper: float | None) -> str:
    """Write a share and its limits as so many of a hundred: "24 (18 to 31)"."""
    if share is None:
        return "an unknown number"
    low, high = (None if end is None else 100 * end for end in (lower, upper))
    limits = interval_in_words(low, high, style=".0f")
    return f"{100 * share:.0f} ({limits})" if limits else f"{100 * share:.0f}"


def of_a_threshold(points: Sequence[Row], question: str, unit: str) -> list[str]:
    """Say what calling positive from a threshold upwards detects and clears.

    Parameters
    ----------
    points : sequence of mapping
        Rows of `release.thresholds.thresholds_to_use`, with sensitivity and specificity and their _lower and _upper.
    question, unit : str
        As `of_hundred` takes them.
    """
    return [
        f"A threshold of {100 * row['threshold']:.1f} % (for {row['aim']}, {row['chosen']}) detects "
        f"{hundred(row, 'sensitivity')} of 100 {unit} with “{question}” "
        f"and correctly clears {hundred(row, 'specificity')} of 100 without."
        for row in points
        if row["sensitivity"] is not None and row["specificity"] is not None
    ]


def hundred(row: Row, name: str) -> str:
    """Write a share of a table as so many of a hundred."""
    return of_hundred_cases(*(row[f"{name}{end}"] for end in LIMITS))


def of_pairs(auc: Mapping[str, Any] | None, question: str, unit: str) -> list[str]:
    """Say what the AUC of a class means: how often a case with it is ranked above a case without."""
    if auc is None or question == TOP_LABEL:
        return []
    share = of_hundred_cases(*auc.values())
    return [
        f"Of two {unit}, one with “{question}” and one without, the model ranks the first higher "
        f"in {share} of 100 pairs."
    ]
