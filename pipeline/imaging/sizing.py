"""Resolves the `auto` values of preprocessing from the cohort's headers and the budget, once, for all stages."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from statistics import median
from typing import Any, Literal

from pipeline.imaging.volumes import Header

Intensity = Literal["keep", "percentile"] | tuple[float, float]

SIZES = (64, 96, 112, 128, 160, 192, 224)
SLICES = (4, 8, 12, 16, 24, 32)
PLANES_PER_SLICE = 3
PASSES_PER_CASE = 36  # six trainings, each with one clean pass, four augmented ones and one for adaptation
REFERENCE_SIZE = 128


@dataclass(frozen=True)
class Geometry:
    """How every case of a cohort is stored.

    Attributes
    ----------
    kind : {"volume", "picture"}
    image_size : int
        Rows and columns of a stored plane.
    slices : int
        Instances of a case that the encoder sees one by one; 1 for a picture.
    channels : int
        Planes of an instance: 3 neighbouring slices of a volume, or the 1 or 3 channels of a picture.
    spacing : tuple of float or None
        Millimetres between columns, rows and planes of a stored volume; None for pictures.
    fit : {"pad", "stretch"}
        How a picture that is not square becomes square.
    intensity : "keep", "percentile" or (low, high)
        What becomes 0 and 255.
    """

    kind: Literal["volume", "picture"]
    image_size: int
    slices: int
    channels: int
    spacing: tuple[float, float, float] | None
    fit: Literal["pad", "stretch"]
    intensity: Intensity

    @property
    def planes(self) -> int:
        """Count the planes of a stored case."""
        return self.slices * self.channels

    def as_json(self) -> dict[str, Any]:
        """Give plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Geometry":
        """Rebuild from the values of a JSON file."""
        tuples: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**tuples)


def reference_passes(n_cases: int, size: int, slices: int) -> float:
    """Count what a full run costs, in passes of one 128 x 128 image through the encoder."""
    return n_cases * slices * (size / REFERENCE_SIZE) ** 2 * PASSES_PER_CASE


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
