"""Say how many patients a failed gate needs, if its metric stays as it is."""

import math
from collections.abc import Mapping
from typing import Any

from scipy.special import logit

from pipeline.metrics.sample_size import patients_until

Metric = Mapping[str, Any]

NEVER = "at this value more patients would not suffice"


def patients_for_auc(auc: Metric, floor: float, n: int) -> str:
    """Say how many patients bring the lower limit of an AUC of n patients to a floor, on the logit scale."""
    if not 0 < auc["lower"] <= auc["value"] < 1:
        return NEVER
    value, lower, bound = (float(logit(end)) for end in (auc["value"], auc["lower"], floor))
    return _said(patients_until(n, value, lower, bound))


def patients_for_slope(slope: Metric, limits: tuple[float, float], n: int) -> str:
    """Say how many patients bring both limits of a slope of n patients into a range, on the logarithmic scale."""
    if slope["lower"] <= 0:
        return NEVER
    value = math.log(slope["value"])
    found = [
        patients_until(n, value, math.log(limit), math.log(bound))
        for limit, bound in zip((slope["lower"], slope["upper"]), limits, strict=True)
    ]
    return _said(None if None in found else max(n, *(one for one in found if one is not None)))


def _said(patients: int | None) -> str:
    return NEVER if patients is None else f"about {patients:,} patients would suffice if the value stays"
