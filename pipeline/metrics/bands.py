"""A metric along a curve, with its interval at each point."""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import estimate_of
from pipeline.metrics.summary import limits_of

Floats = NDArray[np.float64]


def band(name: str, values: Floats, confidence: float) -> dict[str, Floats]:
    """Turn replicates of a curve into the three columns of `summary.limits_of`, by `bootstrap.estimate_of`.

    The band holds point by point: a whole curve lies within it less often than `confidence` says.

    Parameters
    ----------
    name : str
        Of the metric, and of the first column.
    values : (1 + R, G)
        The curve on the sample, then on each replicate, at G points.

    Returns
    -------
    dict of (G,)
        NaN where there is no value or no interval.
    """
    found = [estimate_of(point, confidence) for point in values.T]
    columns = np.array([(one.value, one.lower, one.upper) for one in found], dtype=np.float64).reshape(-1, 3)
    return dict(zip(limits_of(name), columns.T, strict=True))
