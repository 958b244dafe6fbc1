"""Resolves the `auto` values of preprocessing from the cohort's headers and the budget, once, for all stages."""

from collections.abc import Sequence
from itertools import product
from statistics import median
from typing import Literal

from pipeline.imaging.geometry import Geometry, Intensity, reference_passes
from pipeline.imaging.volumes import Header

SIZES = (64, 96, 112, 128, 160, 192, 224)
SLICES = (4, 8, 12, 16, 24, 32)
PLANES_PER_SLICE = 3


def resolve_geometry(
    headers: Sequence[Header],
    budget: int,
    image_size: int | Literal["auto"] = "auto",
    slices: int | Literal["auto"] = "auto",
    channels: int | Literal["auto"] = "auto",
    fit: Literal["pad", "stretch"] = "pad",
    intensity: Intensity | Literal["auto"] = "auto",
) -> Geometry:
    """Choose the finest grid that the scans can fill and the budget can pay.

    The median scan decides; labels and voxels are not looked at.

    Parameters
    ----------
    headers : sequence of Header
        One per case; all volumes or all pictures.
    budget : int
        Passes of one 128 x 128 image through the encoder that a full run may cost.
    image_size, slices, channels, fit, intensity
        Values given by the user, or "auto".

    Raises
    ------
    ValueError
        If the cohort mixes volumes and pictures.
    """
    dimensions = {len(header.shape) for header in headers}
    if len(dimensions) != 1:
        raise ValueError("the cohort mixes volumes and pictures; make one cohort of each")
    if dimensions == {2}:
        native = median(max(header.shape) for header in headers)
        size, _ = _finest(len(headers), budget, image_size, 1, native, 1)
        return Geometry(
            kind="picture",
            image_size=size,
            slices=1,
            channels=(3 if any(h.channels >= 3 for h in headers) else 1) if channels == "auto" else channels,
            spacing=None,
            fit=fit,
            intensity=("keep" if all(h.bits == 8 for h in headers) else "percentile")
            if intensity == "auto"
            else intensity,
        )
    extent = [median(h.shape[axis] * h.spacing[axis] for h in headers) for axis in range(3)]
    in_plane = median(min(h.spacing[:2]) for h in headers)
    native_planes = median(h.shape[2] for h in headers)
    size, count = _finest(
        len(headers), budget, image_size, slices, max(extent[:2]) / in_plane, native_planes / PLANES_PER_SLICE
    )
    pixel = round(max(extent[:2]) / size, 4)
    return Geometry(
        kind="volume",
        image_size=size,
        slices=count,
        channels=PLANES_PER_SLICE,
        spacing=(pixel, pixel, round(extent[2] / (count * PLANES_PER_SLICE), 4)),
        fit=fit,
        intensity="percentile" if intensity == "auto" else intensity,
    )


def _finest(
    n_cases: int,
    budget: int,
    size: int | Literal["auto"],
    slices: int | Literal["auto"],
    native_size: float,
    native_slices: float,
) -> tuple[int, int]:
    sizes = _up_to(SIZES, native_size) if size == "auto" else [size]
    counts = _up_to(SLICES, native_slices) if slices == "auto" else [slices]
    grids = list(product(sizes, counts))
    affordable = [grid for grid in grids if reference_passes(n_cases, *grid) <= budget] or [min(grids)]
    return max(affordable, key=lambda grid: (grid[0] ** 2 * grid[1], grid))


def _up_to(candidates: Sequence[int], native: float) -> list[int]:
    """Keep the candidates up to the first that holds all that the scan has."""
    enough = next((value for value in candidates if value >= native), candidates[-1])
    return [value for value in candidates if value <= enough]
