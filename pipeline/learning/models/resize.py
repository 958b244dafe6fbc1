"""Shrink images with an antialiasing filter, by two matrix products that every export format can hold."""

from functools import lru_cache

import torch
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
    down, across = (_matrix(old, min(old, side)).to(images) for old in (int(height), int(width)))
    return down @ images @ across.T


@lru_cache(maxsize=16)
def _matrix(old: int, new: int) -> Tensor:
    """Compute the weights (new, old) of the filter along one axis; each row sums to one."""
    scale = old / new
    centres = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * scale
    distances = (torch.arange(old, dtype=torch.float64) + 0.5 - centres).abs() / scale
    weights = (1 - distances).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()
