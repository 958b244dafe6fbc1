"""Resolve the `auto` values of preprocessing from the headers of the cohort and the budget."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from statistics import median

from pipeline.imaging.geometry import Geometry, Intensity, reference_passes
from pipeline.imaging.preparation.intensity import PRESETS
from pipeline.imaging.reading.modalities import OF_DICOM
from pipeline.imaging.reading.scan import Header
from pipeline.schema import Preprocess

SIZES = (64, 96, 112, 128, 160, 192, 224)
SLICES = (4, 8, 12, 16, 24, 32)
NEIGHBOURS = {"slab": 3, "slice": 1, "isotropic": 1}  # slices of an instance


def resolve_geometry(headers: Sequence[Header], budget: int, config: Preprocess) -> Geometry:
    """Choose the finest grid that the resolution of the scans justifies and the budget allows.

    The median scan decides; labels and voxels are not used.

    Parameters
    ----------
    headers : sequence of Header
        One per case; all volumes or all images.
    budget : int
        Passes of one 128 x 128 image through the encoder that a full run may cost.
    config : Preprocess
        Section `preprocess` of params.yaml; "auto" leaves a value to the scans and the budget.

    Raises
    ------
    ValueError
        If the cohort mixes volumes and images, or modalities with different intensity scales.
    """
    dimensions = {len(header.shape) for header in headers}
    if len(dimensions) != 1:
        raise ValueError("the cohort mixes volumes and images; make one cohort of each")
    intensity = resolve_intensity(headers, config)
    return (_of_images if dimensions == {2} else _of_volumes)(headers, budget, config, intensity)


def resolve_intensity(headers: Sequence[Header], config: Preprocess) -> Intensity:
    """Choose the intensity rule: the configured one, or that of the modality, or one that fits the bit depth."""
    if config.intensity != "auto":
        return config.intensity
    if all(header.bits == 8 for header in headers) and len(headers[0].shape) == 2:
        return "keep"  # an intensity window was already applied
    modality = modality_of(headers) if config.modality == "auto" else config.modality
    rule: Intensity = PRESETS.get(modality, "percentile")
    return "percentile" if rule == "keep" else rule


def modality_of(headers: Sequence[Header]) -> str:
    """Find the most common modality in the DICOM headers; "" if they state none.

    Raises
    ------
    ValueError
        If CT is mixed with other or unknown modalities.
    """
    found = Counter(OF_DICOM.get(header.modality, "") for header in headers)
    if found["ct"] and len(found) > 1:
        raise ValueError(
            "the cohort mixes CT, whose values are Hounsfield units, with other or unknown modalities; "
            "set preprocess.modality"
        )
    return found.most_common(1)[0][0]


def _of_images(headers: Sequence[Header], budget: int, config: Preprocess, intensity: Intensity) -> Geometry:
    native = median(max(header.shape) for header in headers)
    sizes = _up_to(SIZES, native) if config.image_size == "auto" else [config.image_size]
    size, _ = _finest(len(headers), budget, [(size, 1) for size in sizes])
    found = 3 if any(header.channels >= 3 for header in headers) else 1
    channels: int = found if config.channels == "auto" else config.channels
    if isinstance(intensity, tuple) and len(intensity) > 1:
        channels = len(intensity)
    shows = shows_masks(config)
    channels += shows
    return Geometry("image", size, 1, channels, spacing=None, fit=config.fit, intensity=intensity, mask_channel=shows)


def _of_volumes(headers: Sequence[Header], budget: int, config: Preprocess, intensity: Intensity) -> Geometry:
    windows = (len(intensity) if isinstance(intensity, tuple) else 1) + shows_masks(config)
    instances = ("slab" if windows == 1 else "slice") if config.instances == "auto" else config.instances
    together = NEIGHBOURS[instances]
    typical = max if config.mask in ("crop", "both") else median  # so that every box around a mask fits
    extent = [typical(h.shape[axis] * h.spacing[axis] for h in headers) for axis in range(3)]
    across = max(extent[:2])
    sizes = _up_to(SIZES, across / median(min(h.spacing[:2]) for h in headers))
    counts = _up_to(SLICES, median(h.shape[2] for h in headers) / together)
    grids = list(
        product(
            sizes if config.image_size == "auto" else [config.image_size],
            counts if config.slices == "auto" else [config.slices],
        )
    )
    if instances == "isotropic" and config.slices == "auto":
        grids = [(size, max(round(extent[2] / across * size), 1)) for size, _ in grids]
    size, count = _finest(len(headers), budget, grids)
    pixel = round(across / size, 4)
    depth = pixel if instances == "isotropic" else round(extent[2] / (count * together), 4)
    spacing = (pixel, pixel, depth) if config.spacing == "auto" else config.spacing
    return Geometry(
        "volume",
        size,
        count,
        together * windows,
        spacing=spacing,
        fit=config.fit,
        intensity=intensity,
        crop=config.crop,
        mask_channel=shows_masks(config),
    )


def shows_masks(config: Preprocess) -> bool:
    """Tell whether the mask is a channel."""
    return config.mask in ("channel", "both")


def _finest(n_cases: int, budget: int, grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    affordable = [grid for grid in grids if reference_passes(n_cases, *grid) <= budget] or [min(grids)]
    return max(affordable, key=lambda grid: (grid[0] ** 2 * grid[1], grid))


def _up_to(candidates: Sequence[int], native: float) -> list[int]:
    """Keep the candidates up to the first one that is at least the native resolution."""
    enough = next((value for value in candidates if value >= native), candidates[-1])
    return [value for value in candidates if value <= enough]
