"""Check that a stored image still has the contrast of its scan."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.preparation.intensity import PERCENTILES, scaled
from pipeline.imaging.reading.scan import Finding

SAMPLE = 1 << 12  # values of the scan, and of the image, that are compared
GOLDEN = (5**0.5 - 1) / 2
RICH = 64  # different values from which a scan is checked
LEVELS, ENTROPY, NOT_BLACK = 1 / 8, 1 / 4, 1 / 20  # shares of the scan's own that must be left


def lost_contrast(values: NDArray[Any], channels: NDArray[np.uint8]) -> Finding | None:
    """Compare grey levels, entropy and the share of black of a stored image with those of its scan.

    Parameters
    ----------
    values : array
        Values of the scan without padding.
    channels : uint8 array
        The stored image, of any shape.

    Returns
    -------
    Finding or None
        A warning if hardly anything is left; None for a scan of few values.
    """
    sample = _sample(values)
    different = len(np.unique(sample))
    if different < RICH:
        return None
    low, high = np.percentile(sample, PERCENTILES)
    possible = _counts(np.rint(scaled(sample, (float(low), float(high)))).astype(np.uint8))
    stored = _counts(_sample(channels))
    left = (
        np.count_nonzero(stored) >= LEVELS * np.count_nonzero(possible)
        and _entropy(stored) >= ENTROPY * _entropy(possible)
        and stored[1:].sum() / stored.sum() >= NOT_BLACK * possible[1:].sum() / possible.sum()
    )
    if left:
        return None
    stored = _counts(channels)
    levels, (black, white) = np.count_nonzero(stored), (stored[end] / stored.sum() for end in (0, -1))
    detail = (
        f"hardly any contrast is left: {levels} grey levels of {different} different values, {black:.0%} black, "
        f"{white:.0%} white; look at the image and at the values of the scan"
    )
    return Finding("contrast", detail, "warned", "preprocess.intensity")


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    """Take `SAMPLE` values from all over an array, or all of fewer.

    The golden ratio spreads the places evenly: each so many-th value could be the same column of each slice.
    """
    flat = values.ravel(order="K")  # no copy of the scan
    if flat.size <= SAMPLE:
        return flat
    return flat[(np.arange(SAMPLE) * GOLDEN % 1 * flat.size).astype(np.int64)]


def _counts(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(values.ravel(), minlength=256)


def _entropy(counts: NDArray[np.int64]) -> float:
    """Compute the entropy in bits of all values but black, which may be a border."""
    shares = counts[1:][counts[1:] > 0] / max(counts[1:].sum(), 1)
    return float(-(shares * np.log2(shares)).sum())
