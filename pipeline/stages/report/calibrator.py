"""The released calibrator in words: what it is, on what it was fitted, and how it was chosen."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

MAPS = {
    "none": "none: the logits are not changed",
    "temperature": "temperature scaling: one number divides all logits",
    "platt": "Platt scaling: one slope and an intercept for each class",
    "beta": "beta calibration: a slope for each of two classes, and an intercept",
    "vector": "vector scaling: a slope and an intercept for each class",
    "dirichlet": "Dirichlet calibration: a matrix of slopes, and an intercept for each class",
    "isotonic": "isotonic regression: the best-fitting non-decreasing step function",
}


def calibrator_in_words(record: Row, unit: str) -> dict[str, Any]:
    """Say what stands in calibrator.json.

    Parameters
    ----------
    record : mapping
        The released calibrator (`method` and its numbers), `form`, `members`, `fitted_on` (cases, patients, folds),
        `choice` (rows of method, n_parameters, log_loss, difference, standard_error, kept, why; none where the method
        was given) and `cross_fitted`, the calibrators that evaluate the folds.
    unit : str
        What `patients` counts: "patient", or "image" where no patients are known.

    Returns
    -------
    dict
        what, numbers, fitted and folds in words, and the rows of choice.
    """
    if "fusion" in record:
        return _fusion_in_words(record, unit)
    method = "none" if record.get("temperature") == 1 else record["method"]
    each = " (of each label by itself)" if "labels" in record else ""
    return {
        "what": f"{MAPS[method]}{each}",
        "numbers": numbers_of(record),
        "fitted": fitted_in_words(record, unit),
        "folds": folds_in_words(record["cross_fitted"], record["method"]),
        "changes_nothing": all(one.get("temperature") == 1 for one in (record, *record["cross_fitted"].values())),
        "choice": record["choice"],
    }


def _fusion_in_words(record: Row, unit: str) -> dict[str, Any]:
    """Say the same of a fusion with columns, which stands in place of a calibrator."""
    names = ", ".join(one["name"] for one in record["fusion"]["columns"])
    return {
        "what": f"a penalised logistic regression on the log-odds of the image and on {names}, which needs no further "
        "calibrator",
        "numbers": "",
        "fitted": fitted_in_words(record, unit),
        "folds": folds_in_words(record["cross_fitted"], "fusion"),
        "changes_nothing": True,
        "choice": [],
    }


def numbers_of(record: Row) -> str:
    """Say what is worth knowing of the numbers of a calibrator: its temperature, or its slope."""
    if "temperature" in record:
        value = record["temperature"]
        return "" if value == 1 else f"temperature {value:.3f}, {'over' if value > 1 else 'under'}-confident before"
    if record["method"] in ("platt", "beta", "vector") and "weights" in record:
        slopes = ", ".join(f"{slope:.2f}" for slope in record["weights"])
        return f"slope{'' if len(record['weights']) == 1 else 's'} {slopes}"
    return ""


def fitted_in_words(record: Row, unit: str) -> str:
    """Say on which predictions the released calibrator was fitted."""
    known, names = record["fitted_on"], ", ".join(record["members"])
    whom = f"{known['cases']} images" + (f" of {known['patients']} patients" if unit == "patient" else "")
    if record["form"] == "ensemble":
        return (
            f"The mean of the logits of folds {names} is released; its calibrator was fitted on {whom} that none of "
            "them saw"
        )
    folds = ", ".join(known["folds"])
    return (
        f"One model ({names}) is released; its calibrator was fitted on the out-of-fold predictions of folds {folds}: "
        f"{whom}"
    )


def folds_in_words(maps: Mapping[str, Row], released: str) -> str:
    """Say by which calibrators the folds were evaluated, where they differ from the released one."""
    methods = Counter(one["method"] for one in maps.values())
    if set(methods) == {"temperature"}:
        values = [one["temperature"] for one in maps.values()]
        if set(values) == {1}:
            return "each leaves the logits unchanged"
        return f"temperatures {min(values):.3f} to {max(values):.3f}"
    if set(methods) == {released}:
        return f"all {released}"
    return ", ".join(f"{method} in {count}" for method, count in methods.most_common())
