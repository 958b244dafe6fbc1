"""Convert an image to its stored square: colours, grey values, proportions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.intensity import grey, limits, scaled, without_padding
from pipeline.imaging.preparation.placement import Placement, Prepared
from pipeline.imaging.preparation.region import Region, box_around
from pipeline.imaging.reading.scan import Scan


def prepare_image(scan: Scan, geometry: Geometry, region: Region | None = None) -> Prepared:
    """Convert an image to its stored square: the whole image, or the box around the region."""
    import torch  # not above: it takes longer than many images, and volumes do without
    from torch.nn.functional import interpolate

    windowed = geometry.windows - geometry.mask_channel > 1
    channels = to_channels(scan.voxels, 1 if windowed else geometry.channels - geometry.mask_channel)
    windows = limits(without_padding(channels, scan.background), geometry.intensity)
    box = [slice(0, size) for size in channels.shape[1:]]
    if region and region.crops:
        box = box_around(region.inside, region.margin_mm, scan.header.spacing)
    values = np.concatenate([scaled(channels[:, box[0], box[1]], window) for window in windows])
    tall, wide = scan.header.spacing
    height = values.shape[1] * (1.0 if tall == wide else tall / wide)
    rows, columns = fitted_size(height, values.shape[2], geometry.image_size, geometry.fit)
    # Unlike MONAI's Resized, torch's anti-aliasing does not blur the border with zeros.
    resized = interpolate(torch.from_numpy(values)[None], size=(rows, columns), mode="bilinear", antialias=True)[0]
    count = len(values) + geometry.mask_channel
    stored = np.zeros((count, geometry.image_size, geometry.image_size), dtype=np.uint8)
    top, left = (geometry.image_size - rows) // 2, (geometry.image_size - columns) // 2
    placed = stored[:, top : top + rows, left : left + columns]
    placed[: len(values)] = resized.round().clamp(0, 255).numpy()
    if region and geometry.mask_channel:
        placed[-1] = 255 * nearest(region.inside[box[0], box[1]], rows, columns)
    to_scan = np.eye(4)
    for axis, size, points, border in ((1, values.shape[1], rows, top), (2, values.shape[2], columns, left)):
        to_scan[axis, axis] = size / points
        to_scan[axis, 3] = box[axis - 1].start + (0.5 - border) * size / points - 0.5
    return Prepared(stored, Placement((1, *channels.shape[1:]), scan.affine, to_scan))


def nearest(inside: NDArray[np.bool_], rows: int, columns: int) -> NDArray[np.bool_]:
    """Resize a mask to so many rows and columns by nearest neighbour."""
    picked = [
        ((np.arange(points) + 0.5) * size / points).astype(np.intp)
        for points, size in zip((rows, columns), inside.shape, strict=True)
    ]
    return np.asarray(inside[np.ix_(*picked)])


def to_channels(pixels: NDArray[Any], channels: int) -> NDArray[Any]:
    """Convert an image of 1, 3 or 4 (red, green, blue, alpha) channels to 1 or 3 channels.

    Alpha is dropped, colour becomes grey by ITU-R BT.601 luma, and grey is repeated for colour.
    """
    colours = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1]
    if colours.shape[0] == channels:
        return colours
    if channels == 1:
        return grey(colours)[np.newaxis]
    return np.repeat(colours, channels, axis=0)


def fitted_size(height: float, width: float, size: int, fit: str) -> tuple[int, int]:
    """Compute rows and columns of an image in a square; "pad" keeps its proportions, "stretch" does not.

    Height and width count in pixels of equal sides.
    """
    if fit == "stretch":
        return size, size
    longest = max(height, width)
    return max(round(height * size / longest), 1), max(round(width * size / longest), 1)
