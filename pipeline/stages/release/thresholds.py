"""Collect the thresholds of the released model with their sensitivity and specificity on other patients."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Released = Mapping[str, Mapping[str, Mapping[str, float | None]]]  # by unit, by what is fixed, by class

ON_ALL = "chosen on all development cases"
ON_FOLDS = f"{ON_ALL}, evaluated with thresholds of the folds"


def thresholds_to_use(points: Sequence[Row], scopes: Sequence[str], released: Released) -> list[dict[str, Any]]:
    """List one row for each question and rule: of the test set if it was evaluated, else of the folds.

    Parameters
    ----------
    points : sequence of mapping
        Rows of `operating.operating_table` with their `scope`.
    scopes : sequence of str
        The internal set and the test set, at one level: of patients or of images.
    released : mapping
        The thresholds by which the released model decides, from calibrate's thresholds.json.

    Returns
    -------
    list of dict
        The rows with the released `threshold`, `aim` ("sensitivity 0.90") and `chosen`, on which cases it was chosen.
    """
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for number, scope in enumerate(scopes):
        for row in points:
            if row["scope"] == scope and row["threshold"] is not None:
                aim = row["rule"].partition(" at ")[2]
                of_class = released["patient" if scope.endswith("_patients") else "scan"][aim.partition(" ")[0]]
                known = {"threshold": of_class[row["of"]], "aim": aim, "chosen": ON_ALL if number else ON_FOLDS}
                found[row["of"], row["rule"]] = {**row, **known}
    return list(found.values())
