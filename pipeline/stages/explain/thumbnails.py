"""Make thumbnails for the report: the instances of a case side by side, plain and with a saliency map."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.imaging.geometry import Geometry

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

EDGE = 128  # pixels of a frame
QUALITY = 75
COLOURS = ((70, 10, 120), (215, 60, 60), (255, 235, 110))  # of a map at 0, 0.5 and 1, increasingly bright
OPAQUE = 0.75
DIMMED = 0.6  # brightness of an image under a map, so that white tissue does not hide the map


def frames(channels: NDArray[np.uint8], geometry: Geometry) -> Images:
    """Make one image of each instance: a 2D image in its colours, or the middle channel of a volume's instance.

    Parameters
    ----------
    channels : (P, H, W) uint8

    Returns
    -------
    (S, H, W, 3) uint8
    """
    instances = channels.reshape(geometry.slices, geometry.channels, *channels.shape[1:])
    if geometry.kind == "image" and geometry.channels - geometry.mask_channel == 3:
        return np.ascontiguousarray(np.moveaxis(instances[:, :3], 1, -1))
    middle = geometry.channels // geometry.windows // 2 * geometry.windows
    return np.repeat(instances[:, middle, ..., None], 3, axis=-1)


def by_instance(values: Floats, count: int) -> Floats:
    """Resample maps or attention shares of slices, or of a whole volume, to the instances that are shown."""
    if len(values) < count:
        return np.repeat(values, count // len(values), axis=0)
    return np.asarray(values.reshape(count, -1, *values.shape[1:]).mean(axis=1))


def overlaid(images: Images, maps: Floats) -> Images:
    """Overlay maps on dimmed images, from transparent (0) through violet and red to bright yellow (1).

    Parameters
    ----------
    images : (S, H, W, 3) uint8
    maps : (S, H, W) in [0, 1]
    """
    colour = np.stack([np.interp(maps, (0, 0.5, 1), channel) for channel in zip(*COLOURS, strict=True)], axis=-1)
    dimmed = DIMMED * images
    mixed = dimmed + OPAQUE * maps[..., None] * (colour - dimmed)
    return np.asarray(mixed.round().clip(0, 255), dtype=np.uint8)


def thumbnail(images: Images, edge: int = EDGE) -> str:
    """Put images (S, H, W, 3) side by side, each at most `edge` pixels wide, and encode them as base64 WebP."""
    small = [Image.fromarray(image) for image in images]
    if small[0].width > edge:
        small = [image.resize((edge, edge), Image.Resampling.BILINEAR) for image in small]
    strip = np.concatenate([np.asarray(image) for image in small], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, format="WEBP", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def evenly(count: int, most: int, always: int) -> NDArray[np.int64]:
    """Choose at most `most` of `count` instances evenly, always including `always`."""
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
    chosen[np.abs(chosen - always).argmin()] = always
    return chosen
