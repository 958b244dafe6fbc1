"""Find the body in an image, and how much of a saliency map lies outside of it."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from pipeline.imaging.preparation.intensity import otsu_threshold

Marks = NDArray[np.bool_]
FEWEST = 0.05  # share of background below which an image has none of its own


def background(images: NDArray[np.uint8]) -> Marks:
    """Find the dark region around the body: below Otsu's threshold, and connected to the edge of its image.

    Dark regions within the body, such as ventricles or lungs, are not connected to the edge and belong to the body.

    Parameters
    ----------
    images : (S, H, W, 3) uint8
        The instances of a case, which share one threshold.

    Returns
    -------
    (S, H, W) bool
    """
    grey = images.mean(axis=-1)
    dark = grey < otsu_threshold(grey)
    return np.stack([_at_the_edge(one) for one in dark])


def outside(maps: NDArray[np.float32], images: NDArray[np.uint8]) -> dict[str, float | None]:
    """Compute which share of the sum of the maps, and of the images, lies outside of the body.

    Parameters
    ----------
    maps : (S, H, W) in [0, 1]
    images : (S, H, W, 3) uint8

    Returns
    -------
    dict
        `outside` of the maps and `background` of the images, in [0, 1]; both None if the maps are empty, or if less
        than `FEWEST` of the case is background, as in an image that the body fills or whose background is bright.
    """
    region, mass = background(images), float(maps.sum())
    if mass == 0 or region.mean() < FEWEST:
        return {"outside": None, "background": None}
    return {"outside": float(maps[region].sum()) / mass, "background": float(region.mean())}


def _at_the_edge(dark: Marks) -> Marks:
    regions, _ = label(dark)
    edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    return np.asarray(np.isin(regions, edge[edge > 0]))
