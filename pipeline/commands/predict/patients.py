"""Join the answered scans of each patient, as the headline metrics of the release did."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.bundle.predictor import Predictor
from pipeline.imaging.tables.scan_list import Listed
from pipeline.stages.calibrate.patients import Rule, aggregate

Logits = NDArray[np.float64] | None  # of a scan; None without an answer


def patient_table(
    scans: Sequence[Listed], logits: Sequence[Logits], predictor: Predictor, rule: str
) -> pd.DataFrame | None:
    """Predict patients from the logits of their answered scans.

    Parameters
    ----------
    scans : sequence of Listed
    logits : sequence of (K,) or None
        Of each scan; None if the model gives no answer.
    predictor : Predictor
    rule : str
        `per_patient` of the bundle: "mean", "max" or "none".

    Returns
    -------
    pandas.DataFrame or None
        A row for each patient: `patient`, the number of `scans` and of those `answered`, the probability of each class
        and, with an operating point, the `decision`; both empty if no scan is answered. None if the release did not
        evaluate patients, or no patient is known.
    """
    if rule not in get_args(Rule) or not any(scan.known.get("patient") for scan in scans):
        return None
    of_patient: dict[str, list[Logits]] = {}
    for scan, one in zip(scans, logits, strict=True):
        if name := scan.known.get("patient"):
            of_patient.setdefault(name, []).append(one)
    rows = [{"patient": name} | joined(some, predictor, rule) for name, some in of_patient.items()]
    return pd.DataFrame(rows)


def joined(logits: Sequence[Logits], predictor: Predictor, rule: Any) -> dict[str, Any]:
    """Join the scans of one patient."""
    answered = [one for one in logits if one is not None]
    row: dict[str, Any] = {"scans": len(logits), "answered": len(answered), **dict.fromkeys(predictor.classes)}
    if predictor.operating_point is not None:
        row["decision"] = ""
    if not answered:
        return row
    released = predictor.calibrator.apply(aggregate(np.array(answered), rule, predictor.multilabel)[None])
    shown = predictor.site_calibration.apply(released) if predictor.site_calibration else released
    row |= dict(zip(predictor.classes, shown[0].tolist(), strict=True))
    if predictor.limits and predictor.limits.numbers:
        row |= predictor.limits.numbers.columns(float(shown[0, 0])) | {"unit": predictor.unit}
    if predictor.operating_point is not None:
        row["decision"] = predictor.operating_point.decide(released[0], predictor.classes, "patient")
    return row
