"""The table of results: a row for each scan, with the probabilities of a withheld answer in columns of their own."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.bundle.limits import OUT_OF_DISTRIBUTION
from pipeline.bundle.numbers import LIMITS
from pipeline.bundle.predictor import BAD_IMAGE, WITHHELD, Prediction, Predictor
from pipeline.imaging.tables.scan_list import Listed
from pipeline.metrics.wording import RISK

Row = dict[str, Any]

OF_A_NUMBER = (*LIMITS, "group")
OF_A_SCAN = ("set", "decision", "abstains", "reason", "ood_score", "nearest_site", "site_share", "saliency", "dicom")


def row_of(scan: Listed, found: Prediction, predictor: Predictor) -> Row:
    """Write the row of a scan; an answer that is withheld is not in the columns of answers."""
    row: Row = names_of(scan) | dict(found.probabilities or dict.fromkeys(predictor.classes))
    if predictor.unit:
        row |= _columns_of(found, predictor, withheld=False)
    row |= {"abstains": "; ".join(found.abstains), "reason": found.reason, "model_status": predictor.status}
    if predictor.operating_point is not None:
        row["decision"] = found.decision
    if predictor.limits is not None:
        row |= {name: getattr(found, name) for name in ("set", "ood_score", "nearest_site", "site_share")}
        withheld = found.withheld_probabilities or dict.fromkeys(predictor.classes)
        row |= {WITHHELD + name: value for name, value in withheld.items()}
        row[f"{WITHHELD}set"] = found.withheld_set
    if predictor.unit:
        row |= _columns_of(found, predictor, withheld=True) | {"unit": predictor.unit}
        row = {name: value for name, value in row.items() if name not in ("set", f"{WITHHELD}set")}
    return row


def _columns_of(found: Prediction, predictor: Predictor, *, withheld: bool) -> Row:
    """Give what follows from a number, if the number is an answer, or if it is withheld."""
    numbers = predictor.limits.numbers if predictor.limits else None
    there = found.withheld_probabilities if withheld else found.probabilities
    told: Row = {} if numbers is None else dict.fromkeys(numbers.names)
    if numbers and there is not None:
        told |= numbers.columns(there[predictor.classes[0]])
    return {WITHHELD * withheld + name: value for name, value in told.items()}


def names_of(scan: Listed) -> Row:
    """Name a scan as the user does."""
    return {"scan": scan.name, **{name: scan.known[name] for name in ("case", "patient", "site") if name in scan.known}}


def in_order(rows: Sequence[Row], classes: Sequence[str]) -> pd.DataFrame:
    """Build a table whose column order does not depend on the order of the scans."""
    table = pd.DataFrame(rows)
    risks = [name for name in table if str(name).startswith(RISK) and name not in classes]
    further = [*risks, *(name for name in OF_A_NUMBER if name not in classes)] if "unit" in table else []
    order = ["scan", "case", "patient", "site", *classes, *further, "unit", *OF_A_SCAN, "model_status"]
    order += [WITHHELD + name for name in (*classes, *further, "set")]
    return table[[name for name in order if name in table]]


def withheld_line(table: pd.DataFrame) -> str:
    """Say for how many scans there is no answer, and why."""
    without = table["abstains"].value_counts().drop("", errors="ignore")
    if without.empty:
        return f"scans: {len(table)}; all answered"
    reasons = ", ".join(f"{count} {why}" for why, count in without.items())
    return f"scans: {len(table)}; without an answer: {int(without.sum())} ({reasons})"


def decision_counts(table: pd.DataFrame) -> str:
    """Count the decisions of the answered scans, most frequent first; "" if there are none."""
    if "decision" not in table:
        return ""
    counts = table["decision"].value_counts().drop("", errors="ignore")
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def in_words(abstains: Sequence[str]) -> str:
    """Say in words why the model gives no answer, without numbers.

    >>> in_words(["out of distribution"])
    'the scan is unlike those on which the model was developed'
    """
    words = {BAD_IMAGE: "the scan cannot be used"}
    words[OUT_OF_DISTRIBUTION] = "the scan is unlike those on which the model was developed"
    return "; ".join(words.get(one, "the model is not confident enough") for one in abstains)
