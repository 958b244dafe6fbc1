"""Nyúl's standard scale for MR grey values, which have no unit: landmarks of a scan's histogram meet common ones.

Nyúl, Udupa and Zhang 2000, "New variants of a method of MRI scale standardization", IEEE TMI 19(2), sections II.B-C,
with the landmarks of its variant L4 (deciles). The common landmarks are fitted over cases, so `adapt@k` fits them, on
the training cases of its fold alone; a single scan's landmarks and the mapping are here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
STANDARD_RANGE = (0.0, 100.0)

Landmarks = NDArray[np.float64]


def landmarks(voxels: NDArray[Any]) -> Landmarks:
    """Find a scan's landmarks: percentiles 1, 10, 20, ... 90, 99 of what lies above the lowest value.

    Parameters
    ----------
    voxels : array
        Any shape; the lowest value counts as background.

    Returns
    -------
    (11,) float64
    """
    inside = voxels[voxels > voxels.min()]
    return np.asarray(np.percentile(inside if inside.size else voxels, PERCENTILES), dtype=np.float64)


def standard_scale(of_scans: Sequence[Landmarks]) -> Landmarks:
    """Average the landmarks of several scans, each first mapped so that its outer ones become 0 and 100.

    Parameters
    ----------
    of_scans : sequence of (11,) float64
        Of training cases only.

    Raises
    ------
    ValueError
        If there is no scan whose outer landmarks differ.
    """
    stacked = np.asarray([one for one in of_scans if one[-1] > one[0]])
    if not len(stacked):
        raise ValueError("no scan has a histogram with any width")
    low, high = stacked[:, :1], stacked[:, -1:]
    start, end = STANDARD_RANGE
    return np.asarray((start + (stacked - low) / (high - low) * (end - start)).mean(axis=0))


def to_standard_scale(voxels: NDArray[Any], own: Landmarks, standard: Landmarks) -> NDArray[np.float32]:
    """Map grey values so that a scan's landmarks fall on the standard ones, in straight pieces.

    Beyond the outer landmarks the outer pieces go on; landmarks that coincide make a piece without slope.

    Parameters
    ----------
    voxels : array
    own, standard : (11,) float64
        From `landmarks` and `standard_scale`.
    """
    widths, heights = np.diff(own), np.diff(standard)
    slopes = np.divide(heights, widths, out=np.zeros_like(heights), where=widths > 0)
    piece = np.digitize(voxels, own[1:-1])
    mapped: NDArray[np.float32] = (standard[piece] + slopes[piece] * (voxels - own[piece])).astype(np.float32)
    return mapped
