"""Choose the one threshold of each operating point that is to be used, and say on which cases it was chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

ON_ALL = "chosen on all development cases"
ON_FOLDS = "the median of thresholds that were chosen fold by fold"


def thresholds_to_use(points: Sequence[Row], scopes: Sequence[str]) -> list[dict[str, Any]]:
    """List one row for each question and rule: of the test set if it was evaluated, else of the folds.

    Parameters
    ----------
    points : sequence of mapping
        Rows of `operating.operating_table` with their `scope`.
    scopes : sequence of str
        The internal set and the test set, at one level: of patients or of images.

    Returns
    -------
    list of dict
        The rows, each with `aim` ("sensitivity 0.90") and `chosen`, how its threshold was chosen.
    """
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for number, scope in enumerate(scopes):
        for row in points:
            if row["scope"] == scope and row["threshold"] is not None:
                known = {"aim": row["rule"].partition(" at ")[2], "chosen": ON_ALL if number else ON_FOLDS}
                found[row["of"], row["rule"]] = {**row, **known}
    return list(found.values())
