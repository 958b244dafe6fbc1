"""Map the values of a scan to grey values from 0 to 255."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.geometry import Intensity, Window

PERCENTILES = (0.5, 99.5)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
DEVIATIONS = 3.0  # standard deviations from the mean that become black and white
PIECE = 1 << 20  # voxels counted at a time
WIDEST = 1 << 20  # largest range of integers that is counted instead of sorted

# Window in Hounsfield units, or rule, per modality.
PRESETS: dict[str, Intensity] = {
    "ct": ((-1000.0, 400.0),),
    "mr": "percentile",
    "xray": "percentile",
    "us": "keep",
    "rgb": "keep",
}


def without_padding(voxels: NDArray[Any], background: float | None) -> NDArray[Any]:
    """Select the values inside the imaged area; all if that would leave none."""
    if background is None:
        return voxels
    inside: NDArray[Any] = voxels[voxels != background]
    return inside if inside.size else voxels


def limits(voxels: NDArray[Any], intensity: Intensity) -> tuple[Window, ...]:
    """Find the values of a scan that become 0 and 255.

    Parameters
    ----------
    voxels : array
        One channel of any shape; integers are counted, other values sorted.
    intensity : "keep", "percentile", "zscore" or windows
        keep: 0 and 255. percentile: percentiles 0.5 and 99.5 of the scan. zscore: mean ± 3 standard deviations
        of the voxels that are not zero.

    Returns
    -------
    tuple of (low, high)
        One per resulting channel.
    """
    if isinstance(intensity, tuple):
        return intensity
    if intensity == "keep":
        return ((0.0, 255.0),)
    if intensity == "percentile":
        low, high = percentiles(voxels, PERCENTILES)
        return ((low, high),)
    inside = voxels[voxels != 0].astype(np.float64)
    if not inside.size:
        return ((0.0, 0.0),)
    mean, deviation = float(inside.mean()), float(inside.std())
    return ((mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation),)


def grey(voxels: NDArray[Any]) -> NDArray[Any]:
    """Take the single channel of a volume, or the luma (ITU-R BT.601) of three channels."""
    if voxels.shape[0] == 1:
        single: NDArray[Any] = voxels[0]
        return single
    return np.asarray(np.tensordot(np.array(LUMA, dtype=np.float32), voxels[:3].astype(np.float32), axes=1))


def scaled(voxels: NDArray[Any], window: Window) -> NDArray[np.float32]:
    """Map a window to 0 to 255 and clip values outside; a window of width 0 gives black."""
    low, high = window
    values = np.array(voxels, dtype=np.float32, order="C")
    values -= np.float32(low)
    values *= np.float32(255 / (high - low) if high > low else 0)
    return np.clip(values, 0, 255, out=values)


def percentiles(voxels: NDArray[Any], wanted: tuple[float, ...]) -> list[float]:
    """Compute the percentiles of `numpy.percentile`, by counting if the voxels are integers."""
    if voxels.dtype.kind not in "iu":
        return [float(value) for value in np.percentile(voxels, wanted)]
    lowest, highest = int(voxels.min()), int(voxels.max())
    if highest - lowest >= WIDEST:  # differences may not fit into 32 bits
        return [float(value) for value in np.percentile(voxels.astype(np.float64), wanted)]
    below = np.cumsum(histogram(voxels, lowest, highest))
    places = np.asarray(wanted) / 100 * (below[-1] - 1)
    lower = np.searchsorted(below, np.floor(places), side="right") + lowest
    upper = np.searchsorted(below, np.ceil(places), side="right") + lowest
    return [float(value) for value in lower + (upper - lower) * (places - np.floor(places))]


def histogram(voxels: NDArray[Any], lowest: int, highest: int) -> NDArray[np.int64]:
    """Count each integer from `lowest` to `highest`, piece by piece."""
    flat = voxels.ravel(order="K")
    counts = np.zeros(highest - lowest + 1, dtype=np.int64)
    for start in range(0, flat.size, PIECE):
        piece = flat[start : start + PIECE].astype(np.int64) - lowest
        counts += np.bincount(piece, minlength=len(counts))
    return counts


def otsu_threshold(voxels: NDArray[Any], bins: int = 256) -> float:
    """Find the threshold of foreground and background with the largest variance between classes.

    Otsu 1979, equations 12 to 18, on a histogram of `bins` bins.
    """
    low, high = voxels.min(), voxels.max()
    if voxels.dtype.kind == "f" and high - low <= bins * np.spacing(max(abs(low), abs(high))):
        voxels = voxels.astype(np.float64)  # which has room for bins between neighbouring numbers of 32 bits
    counts, edges = np.histogram(voxels, bins=bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = ((counts * centres).sum() - np.cumsum(counts * centres)) / np.maximum(above, 1)
    between = below.astype(np.float64) * above * (mean_below - mean_above) ** 2
    return float(edges[int(np.argmax(between[:-1])) + 1])
