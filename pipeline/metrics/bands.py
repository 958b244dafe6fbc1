"""Pointwise bootstrap bands of curves."""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.summary import limits_of

Floats = NDArray[np.float64]


def band(name: str, values: Floats, confidence: float) -> dict[str, Floats]:
    """Compute the pointwise band of a curve, in the three columns of `summary.limits_of`.

    The level holds at each point; the whole curve lies within the band less often than `confidence`.

    Parameters
    ----------
    name : str
        Name of the metric and of the first column.
    values : (1 + R, G)
        The curve on the sample, then on each replicate, at G points.

    Returns
    -------
    dict of (G,)
        NaN without a value or an interval.
    """
    found = [estimate_of(point, confidence) for point in values.T]
    columns = np.array([(one.value, one.lower, one.upper) for one in found], dtype=np.float64).reshape(-1, 3)
    return dict(zip(limits_of(name), columns.T, strict=True))
