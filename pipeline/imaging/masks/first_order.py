"""First-order features of the values inside a mask by the definitions of the IBSI, sections 3.3 and 3.4."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = (
    *("mean", "variance", "skewness", "kurtosis", "median", "minimum", "p10", "p90", "maximum", "iqr", "range"),
    *("mad", "robust_mad", "median_ad", "cov", "qcod", "energy", "rms", "entropy", "uniformity"),
)
BINS = 32  # of the histogram whose entropy is computed, between the least and the greatest value


def first_order_features(values: NDArray[Any], bins: int = BINS) -> dict[str, float]:
    """Describe the distribution of values.

    Parameters
    ----------
    values : (n,)
        In the scan's own units.
    bins : int
        Number of bins of equal width for entropy and uniformity (IBSI: fixed bin number).

    Returns
    -------
    dict
        `NAMES`: moments (kurtosis less 3), percentiles, interquartile range, range, mean absolute deviation from the
        mean, the same of the values between both deciles (robust), mean absolute deviation from the median, coefficient
        of variation, quartile coefficient of dispersion, sum of squares (energy), root mean square, entropy in bits and
        uniformity of the histogram. NaN where a denominator is 0; skewness and kurtosis of equal values are 0.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    p10, p25, median, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90])
    mean, variance = float(x.mean()), float(x.var())
    centred, between = x - mean, x[(x >= p10) & (x <= p90)]
    shares = _histogram(x, bins)
    found = (
        *(mean, variance),
        (centred**3).mean() / variance**1.5 if variance > 0 else 0.0,
        (centred**4).mean() / variance**2 - 3 if variance > 0 else 0.0,
        *(median, x.min(), p10, p90, x.max(), p75 - p25, np.ptp(x)),
        *(np.abs(centred).mean(), _spread(between), np.abs(x - median).mean()),
        *(_over(np.sqrt(variance), mean), _over(p75 - p25, p75 + p25), (x**2).sum(), np.sqrt((x**2).mean())),
        *(-(shares * np.log2(shares)).sum(), (shares**2).sum()),
    )
    return {name: float(value) for name, value in zip(NAMES, found, strict=True)}


def _spread(values: NDArray[np.float64]) -> float:
    """Compute the mean absolute deviation from the mean; NaN of no value."""
    return float(np.abs(values - values.mean()).mean()) if values.size else float("nan")


def _over(value: float, by: float) -> float:
    return value / by if by else float("nan")


def _histogram(x: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Compute the shares of the bins that are not empty."""
    counts, _ = np.histogram(x, bins, (x.min(), x.max()) if np.ptp(x) > 0 else (x[0] - 0.5, x[0] + 0.5))
    return np.asarray(counts[counts > 0] / len(x))
