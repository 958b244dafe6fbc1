"""Tell padding from the values of a scan, and show it as background.

Padding lies outside the imaged area. Its value may be far from all others, so that percentiles over it would leave a
few grey levels for the scan itself. Padding is declared by DICOM's PixelPaddingValue, or recognised: an end of the data
type, or a border of one value, that is further from the other values than these are from each other.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.reading.scan import Finding, Scan, Unreadable, compact

ENDS = (-(2**15), 2**15 - 1, 2**16 - 1, -(2**31), 2**31 - 1, 2**32 - 1)  # of data types of 16 and 32 bits
ENDLESS = 1e30  # values beyond are sentinels, such as the largest number of 32 bits
FEWEST_LEVELS = 16  # different values that a scan has without its padding
AMONG = 0.01  # share of the voxels below and above, from which a declared padding lies among the values


def darkened(scan: Scan, outside: NDArray[np.bool_]) -> Scan:
    """Set declared padding to a value below all others, and report it.

    Parameters
    ----------
    outside : bool array of the shape of a channel
        The declared padding.

    Raises
    ------
    Unreadable
        If there is nothing but padding.
    """
    if not outside.any():
        return scan
    inside = scan.voxels[:, ~outside]
    if not inside.size:
        raise Unreadable("constant", "every voxel is padding (PixelPaddingValue)")
    stated = scan.voxels[:, outside]
    below, above = np.mean(inside < stated.min()), np.mean(inside > stated.max())
    if min(below, above) > AMONG:
        detail = (
            f"PixelPaddingValue lies among the values of the scan ({below:.0%} are lower, {above:.0%} higher), so that "
            "it cannot mean the background; it was not applied"
        )
        return _with(scan, Finding("padding", detail, "warned"))
    return _darkened(scan, outside, inside, "as PixelPaddingValue states")


def recognised(scan: Scan, low: float, high: float) -> Scan:
    """Set padding that no header declares to a value below all others, and report it.

    Parameters
    ----------
    low, high : float
        Lowest and highest voxel.
    """
    if scan.background is not None or scan.voxels.dtype == np.uint8 or scan.voxels.shape[0] > 1:
        return scan
    values = scan.voxels[0]
    suspects = [end for end in (low, high) if end in ENDS or abs(end) > ENDLESS or _fills_a_border(values, end)]
    for some in ([low, high], [low], [high]):
        outside = np.isin(values, some) if set(some) <= set(suspects) else None
        if outside is not None and _is_apart(some, inside := values[~outside]):
            named = " and ".join(f"{end:g}" for end in some)
            return _darkened(scan, outside, inside, f"the value {named} is far from all others")
    return scan


def _is_apart(ends: list[float], inside: NDArray[Any]) -> bool:
    """Tell whether values are further from the others than these are from each other."""
    if len(np.unique(inside.ravel(order="K")[: 1 << 16])) < FEWEST_LEVELS:
        return False
    least, most = float(inside.min()), float(inside.max())
    return all(max(least - float(end), float(end) - most) > most - least for end in ends)


def _fills_a_border(values: NDArray[Any], value: float) -> bool:
    axes = [axis for axis in range(values.ndim) if values.shape[axis] > 2]
    borders = (np.moveaxis(values, axis, 0)[end] for axis in axes for end in (0, -1))  # views: `take` copies all
    return value != 0 and any((border == value).all() for border in borders)


def _darkened(scan: Scan, outside: NDArray[np.bool_], inside: NDArray[Any], why: str) -> Scan:
    low, high = inside.min(), inside.max()
    if inside.dtype.kind in "iu":
        background: float = int(low) - 1
        voxels = compact(np.where(outside, background, scan.voxels.astype(np.int64)))
    else:
        background = float(np.float32(low - max(float(high - low), abs(float(low)) * 1e-6, 1e-30) / 256))
        voxels = np.where(outside, np.float32(background), scan.voxels)
    share = f"{outside.mean():.1%} of the voxels"
    found = Finding("padding", f"{share} are padding ({why}); they count as background", "repaired")
    return replace(_with(scan, found), voxels=voxels, background=background)


def _with(scan: Scan, finding: Finding) -> Scan:
    return replace(scan, header=replace(scan.header, findings=(*scan.header.findings, finding)))
