"""Find the proportions of the pixels of a 2D image; what an image states of them must not contradict itself."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from pipeline.imaging.reading.scan import Unreadable

EQUAL = 0.02  # relative difference of two ratios that counts as rounding
PLAUSIBLE = 5.0  # largest ratio of the sides of a pixel; a file that states more states nonsense
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
RATIO = "PixelAspectRatio"
X_RESOLUTION, Y_RESOLUTION = 282, 283  # tags of TIFF


def spacing_of_dicom(fields: Any) -> tuple[float, float]:
    """Find the millimetres between rows and between columns; without any, the ratio of the pixel's sides, or ones.

    Raises
    ------
    Unreadable
        If attributes contradict each other, or state an impossible size.
    """
    stated = dict(_stated(fields))
    for name, pair in stated.items():
        if not (np.isfinite(pair).all() and min(pair) > 0 and max(pair) <= PLAUSIBLE * min(pair)):
            raise Unreadable("proportions", f"{name} states pixels of {pair[0]:g} x {pair[1]:g}, which cannot be")
    ratios = {name: rows / columns for name, (rows, columns) in stated.items()}
    if ratios and max(ratios.values()) > (1 + EQUAL) * min(ratios.values()):
        said = ", ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
        raise Unreadable(
            "proportions", f"height and width of a pixel contradict each other ({said}); correct the header"
        )
    return next(iter(stated.values()), (1.0, 1.0))


def is_in_mm(fields: Any) -> bool:
    """Tell whether a DICOM image states the size of its pixels, rather than nothing or their proportions."""
    return any(name != RATIO for name, _ in _stated(fields))


def _stated(fields: Any) -> Iterator[tuple[str, tuple[float, float]]]:
    for name in SPACINGS:
        if values := fields.get(name):
            yield name, (float(values[0]), float(values[1]))
    regions = [one for one in fields.get("SequenceOfUltrasoundRegions") or [] if _in_centimetres(one)]
    deltas = {(abs(float(one.PhysicalDeltaY)) * 10, abs(float(one.PhysicalDeltaX)) * 10) for one in regions}
    if len(deltas) == 1:
        yield "SequenceOfUltrasoundRegions", deltas.pop()
    if values := fields.get(RATIO):
        yield RATIO, (float(values[0]), float(values[1]))


def _in_centimetres(region: Any) -> bool:
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    return units == (3, 3) and "PhysicalDeltaX" in region and "PhysicalDeltaY" in region


def spacing_of_image(image: Image.Image) -> tuple[float, float]:
    """Find the height and width of a pixel of a PNG, JPEG or TIFF, the smaller as 1; ones where nothing is stated.

    The resolution of such files says nothing about millimetres, but its two numbers give the proportions.
    """
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF":
        across, down = tags.get(X_RESOLUTION, 1), tags.get(Y_RESOLUTION, 1)
    else:
        across, down = image.info.get("jfif_density") or image.info.get("aspect") or image.info.get("dpi") or (1, 1)
    try:
        across, down = float(across), float(down)
    except (TypeError, ValueError, ZeroDivisionError):
        return 1.0, 1.0
    if not (np.isfinite([across, down]).all() and min(across, down) > 0):
        return 1.0, 1.0
    ratio = across / down  # of height to width: many pixels across are narrow
    if not 1 / PLAUSIBLE <= ratio <= PLAUSIBLE or abs(ratio - 1) <= EQUAL:
        return 1.0, 1.0
    return (ratio, 1.0) if ratio > 1 else (1.0, 1 / ratio)
