"""Read PNG, JPEG and TIFF images as (C, rows, columns), upright as the file states."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence

from pipeline.imaging.reading.scan import Header, Policy, Scan, compact, pick_frame, refuse_frames, refuse_size

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

GREY = ("L", "I", "F", "LA")
AS_STORED = (*GREY, "RGB", "RGBA")
ROTATED = range(5, 9)  # EXIF orientations that exchange rows and columns
EXIF_ORIENTATION = 274

Image.MAX_IMAGE_PIXELS = None  # `Policy.max_voxels` is the limit


def read_header(path: Path, policy: Policy) -> Header:
    """Read size, channels and bit depth without the pixels."""
    with Image.open(path) as image:
        return _described(image, policy)


def read_scan(path: Path, policy: Policy) -> Scan:
    """Read the pixels; verify the checksums of a PNG and apply the EXIF orientation."""
    with Image.open(path) as image:
        if image.format == "PNG":
            image.verify()  # checks all checksums; the image cannot be used afterwards
    with Image.open(path) as image:
        header = _described(image, policy)
        frames = [_pixels(frame) for frame in ImageSequence.Iterator(image)]
    if len(frames) == 1:
        return Scan(frames[0], np.eye(4), header)
    values, finding = pick_frame(np.stack(frames, axis=-1), policy)
    return Scan(compact(values), np.eye(4), replace(header, findings=(finding,)))


def _described(image: Image.Image, policy: Policy) -> Header:
    frames = getattr(image, "n_frames", 1)
    refuse_frames(frames, policy)
    rows, columns = image.height, image.width
    if image.getexif().get(EXIF_ORIENTATION) in ROTATED:
        rows, columns = columns, rows
    refuse_size((rows, columns, frames), policy)
    deep = image.mode.startswith(("I", "F"))
    channels = {"L": 1, "LA": 1, "1": 1, "RGBA": 4}.get(image.mode, 1 if deep else 3)
    return Header((rows, columns), channels, (1.0, 1.0), 16 if deep else 8)


def _pixels(image: Image.Image) -> NDArray[Any]:
    """Convert to (C, rows, columns): palettes, CMYK and YCbCr to RGB, grey with transparency to grey."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("LA", "1"):
        upright = upright.convert("L")
    elif not upright.mode.startswith(AS_STORED):
        upright = upright.convert("RGB")
    pixels = np.asarray(upright)
    stacked = pixels[np.newaxis] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return compact(np.ascontiguousarray(stacked))
