"""Fit the recalibration of a number: slope and intercept, from the network's output to the released value."""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.calibrators.calibrator import Linear

Floats = NDArray[np.float64]


def fit_linear(outputs: Floats, true: Floats, weights: Floats) -> Linear:
    """Fit the least-squares line of true numbers (n,) on outputs (n,), with weights (n,) of the cases.

    The slope is never negative: outputs that tell nothing are often related to the truth of held-out cases the wrong
    way round, and the mean is then the better value. Outputs that are all the same are shifted to the mean.
    """
    share = weights / weights.sum()
    middle, mean = float(share @ outputs), float(share @ true)
    spread = float(share @ np.square(outputs - middle))
    if spread <= 1e-12 * max(middle**2, 1e-300):
        return Linear(1.0, mean - middle)
    slope = max(float(share @ ((outputs - middle) * true)) / spread, 0.0)
    return Linear(slope, mean - slope * middle)
