"""Shape features of a mask by the definitions of the Image Biomarker Standardisation Initiative, section 3.1.

Volumes have surface and volume of a mesh. Images have the same features in two dimensions, as pyradiomics names them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.masks.mesh import mesh_of

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

OF_VOLUMES = (
    *("volume", "surface", "surface_volume_ratio", "compactness", "sphericity", "max_diameter"),
    *("major_axis", "minor_axis", "least_axis", "elongation", "flatness", "regions"),
)
OF_IMAGES = (
    *("area", "perimeter", "perimeter_area_ratio", "circularity", "max_diameter"),
    *("major_axis", "minor_axis", "elongation", "regions"),
)
TOGETHER = 500  # corners whose distances are computed at a time


def shape_features(inside: Marks, to_mm: Floats) -> dict[str, float]:
    """Measure the shape of the voxels inside.

    Parameters
    ----------
    inside : (X, Y, Z) or (rows, columns) bool
        At least one is inside.
    to_mm : (D, D)
        Steps along the axes in millimetres (of an image without pixel size, in pixels), one per column.

    Returns
    -------
    dict
        `OF_VOLUMES`: volume (mm³) and surface (mm²) of the mesh, their ratio (1/mm), compactness 2, 36 pi V²/A³, and
        sphericity, (36 pi V²)^(1/3) / A, both 1 for a ball; the largest distance of two corners of the mesh (mm); the
        axis lengths 4 sqrt(eigenvalue) of the covariance of the voxel centres (mm), elongation minor/major and
        flatness least/major, NaN for a single voxel; the number of connected regions.
        `OF_IMAGES`: the same in two dimensions; circularity is 2 sqrt(pi A) / P.

    References
    ----------
    Zwanenburg et al. 2020, Radiology 295:328 (IBSI); reference manual, arXiv 1612.07003v11.
    """
    from scipy.ndimage import label  # not above: few cohorts have masks

    mesh = mesh_of(inside, to_mm)
    diameter, axes = _largest_distance(mesh.corners), _axis_lengths(np.argwhere(inside) @ to_mm.T)
    regions = float(label(inside, np.ones((3,) * inside.ndim))[1])
    ratios = axes[1:] / axes[0] if axes[0] > 0 else np.full(len(axes) - 1, np.nan)
    if inside.ndim == 2:
        circularity = 2 * np.sqrt(np.pi * mesh.content) / mesh.boundary
        values = (mesh.content, mesh.boundary, mesh.boundary / mesh.content, circularity, diameter, *axes)
        return _named(OF_IMAGES, (*values, ratios[0], regions))
    compactness = 36 * np.pi * mesh.content**2 / mesh.boundary**3
    values = (mesh.content, mesh.boundary, mesh.boundary / mesh.content, compactness, np.cbrt(compactness), diameter)
    return _named(OF_VOLUMES, (*values, *axes, *ratios, regions))


def _named(names: tuple[str, ...], values: tuple[Any, ...]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _axis_lengths(centres: Floats) -> Floats:
    """Compute 4 sqrt(eigenvalue) of the covariance of points (n, D), the greatest first."""
    centred = centres - centres.mean(axis=0)
    values = np.linalg.eigvalsh(centred.T @ centred / max(len(centres) - 1, 1))[::-1]
    return np.asarray(4 * np.sqrt(values.clip(0)))


def _largest_distance(points: Floats) -> float:
    """Find the largest distance of two of the points (n, D), which are no plane."""
    from scipy.spatial import ConvexHull

    outer = points[ConvexHull(points).vertices]
    pieces = [outer[start : start + TOGETHER] for start in range(0, len(outer), TOGETHER)]
    squares = [((one[:, None] - other[None]) ** 2).sum(axis=-1).max() for one in pieces for other in pieces]
    return float(np.sqrt(max(squares)))
