"""The features of a mask in its scan, by the names under which they are columns of a cohort."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.masks.first_order import NAMES, first_order_features
from pipeline.imaging.masks.shape import OF_IMAGES, OF_VOLUMES, shape_features
from pipeline.imaging.reading.scan import Scan

PREFIX = "mask_"
ALL = "mask_features"  # names every feature, where a column is asked for
LENGTHS = tuple(
    PREFIX + name for name in ("area", "perimeter", "perimeter_area_ratio", "max_diameter", "major_axis", "minor_axis")
)  # features of images that are in millimetres or in pixels
DIGITS = 9  # significant ones of a number in a table

FEATURES: Mapping[str, tuple[str, ...]] = {
    "volume": tuple(PREFIX + name for name in (*OF_VOLUMES, *NAMES)),
    "image": tuple(PREFIX + name for name in (*OF_IMAGES, *NAMES)),
}


def is_feature(name: str) -> bool:
    """Tell whether a column is a feature of masks, or stands for all of them, rather than a column of a table."""
    return name == ALL or any(name in names for names in FEATURES.values())


def kind_of(scan: Scan) -> str:
    """Say whether a scan is a "volume" or an "image"."""
    return "volume" if scan.header.is_volume else "image"


def unit_of(scan: Scan) -> str:
    """Name the unit of the `LENGTHS` of a scan's mask: "mm", or "pixels" of an image without a pixel size."""
    return "mm" if scan.header.in_mm else "pixels"


def measure(scan: Scan, inside: NDArray[np.bool_]) -> dict[str, str]:
    """Measure shape and values inside a mask, on the grid of the scan and in its own units.

    Parameters
    ----------
    scan : Scan
        Of a scan with several channels, the mean of its first three counts as its value.
    inside : (X, Y, Z) or (rows, columns) bool
        On the grid of the scan.

    Returns
    -------
    dict
        By the names in `FEATURES`, numbers as texts, as tables of columns hold them; all "" if nothing is inside, and
        "" where a feature is not defined.
    """
    names = FEATURES[kind_of(scan)]
    if not inside.any():
        return dict.fromkeys(names, "")
    to_mm = scan.affine[:3, :3] if inside.ndim == 3 else np.diag(scan.header.spacing)
    values = scan.voxels[:3, inside].astype(np.float64).mean(axis=0)
    found = shape_features(inside, np.asarray(to_mm, dtype=np.float64)) | first_order_features(values)
    return {name: as_text(found[name.removeprefix(PREFIX)]) for name in names}


def as_text(value: float) -> str:
    """Write a feature as a table holds it; "" if it is not defined."""
    return f"{value:.{DIGITS}g}" if np.isfinite(value) else ""
