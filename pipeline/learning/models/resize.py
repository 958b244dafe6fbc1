"""Shrink images with an antialiasing filter, by two matrix products that every export format can hold."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def shrunk(images: Tensor, side: int | None) -> Tensor:
    """Shrink images to `side` rows and columns; larger sides and None leave them unchanged.

    The filter is the triangle filter of Pillow's and torch's antialiased bilinear interpolation: each output pixel is
    the weighted mean of the pixels within one output pixel of its centre.

    Parameters
    ----------
    images : (..., H, W) float
    side : int or None

    Returns
    -------
    (..., h, w)
        h = min(H, side), w = min(W, side).
    """
    height, width = images.shape[-2:]
    if side is None or (height <= side and width <= side):
        return images
    down, across = (torch.from_numpy(_matrix(old, min(old, side))).to(images) for old in (int(height), int(width)))
    return down @ images @ across.T


@lru_cache(maxsize=16)
def _matrix(old: int, new: int) -> NDArray[np.float32]:
    """Compute the weights (new, old) of the filter along one axis; each row sums to one.

    They are no tensor: one that was made while a network is exported, or in inference mode, could not be used later.
    """
    scale = old / new
    centres = (np.arange(new)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(old) + 0.5 - centres) / scale
    weights = np.clip(1 - distances, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
