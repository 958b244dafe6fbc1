"""Compute histograms of grey values with aligned bins, so that the histograms of many cases can be summed.

The width of a bin is a power of two and its lower edge a multiple of the width. Two neighbouring bins therefore form
one bin of the next width exactly, and no range has to be known in advance.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.preparation.intensity import percentiles

BINS = 64
MIDDLE, WHOLE = (0.5, 99.5), (0.0, 100.0)  # percentiles; values outside are counted in the end bins
PIECE = 1 << 20  # voxels processed at a time


@dataclass(frozen=True)
class Histogram:
    """Voxel counts by grey value.

    Attributes
    ----------
    exponent, first : int
        Bin i holds the values in [(first + i) * 2^exponent, (first + i + 1) * 2^exponent). The first and the last bin
        also hold all lower and higher values.
    counts : tuple of int
        At most `BINS`.
    """

    exponent: int
    first: int
    counts: tuple[int, ...]

    @property
    def edges(self) -> tuple[float, float]:
        """The lower edge of the first bin and the upper edge of the last one."""
        width = 2.0**self.exponent
        return self.first * width, (self.first + len(self.counts)) * width

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)

    def coarser(self, exponent: int) -> "Histogram":
        """Merge bins until their width is 2^exponent."""
        steps = exponent - self.exponent
        if not steps:
            return self
        places = (self.first + np.arange(len(self.counts))) >> steps
        counts = np.bincount(places - places[0], weights=self.counts).astype(int)
        return Histogram(exponent, int(places[0]), tuple(counts.tolist()))


def histogram_of(values: NDArray[Any], within: tuple[float, float] = MIDDLE) -> Histogram:
    """Count grey values in at most `BINS` bins between two of their percentiles.

    Parameters
    ----------
    values : array
        Finite, in any unit and shape.
    within : (low, high)
        Percentiles in [0, 100]; otherwise a few very bright voxels would leave a single bin for all others.
    """
    low, high = percentiles(values, within)
    exponent = int(np.ceil(np.log2((high - low) / BINS))) if high > low else 0
    first, last = _bin_of(low, exponent), _bin_of(high, exponent)
    if last - first >= BINS:  # the range touches one bin more than its width
        exponent += 1
        first, last = first >> 1, last >> 1
    flat, counts = values.ravel(order="K"), np.zeros(last - first + 1, dtype=np.int64)
    for start in range(0, flat.size, PIECE):
        piece = flat[start : start + PIECE].astype(np.float64)
        places = np.clip(np.floor(piece / 2.0**exponent), first, last).astype(np.int64)
        counts += np.bincount(places - first, minlength=len(counts))
    return Histogram(exponent, first, tuple(counts.tolist()))


def summed(histograms: Sequence[Histogram]) -> Histogram:
    """Sum histograms, with the narrowest bins for which `BINS` bins cover all of them.

    Parameters
    ----------
    histograms : sequence of Histogram
        At least one.
    """
    exponent = max(one.exponent for one in histograms)
    while True:
        same = [one.coarser(exponent) for one in histograms]
        first = min(one.first for one in same)
        length = max(one.first + len(one.counts) for one in same) - first
        if length <= BINS:
            break
        exponent += 1
    counts = np.zeros(length, dtype=np.int64)
    for one in same:
        counts[one.first - first : one.first - first + len(one.counts)] += one.counts
    return Histogram(exponent, first, tuple(counts.tolist()))


def _bin_of(value: float, exponent: int) -> int:
    return int(np.floor(value / 2.0**exponent))
