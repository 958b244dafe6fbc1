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

FORMATS = ("PNG", "JPEG", "TIFF")  # Pillow would also start other programs, e.g. for PostScript

Image.MAX_IMAGE_PIXELS = None  # `Policy.max_voxels` is the limit


def read_header(path: Path, policy: Policy) -> Header:
    """Read size, channels and bit depth without the pixels."""
    with Image.open(path, formats=FORMATS) as image:
        return _described(image, policy)


def read_scan(path: Path, policy: Policy) -> Scan:
    """Read the pixels; verify the checksums of a PNG and apply the EXIF orientation."""
    with Image.open(path, formats=FORMATS) as image:
        _refuse_size_of(image, policy)
        if image.format == "PNG":
            image.verify()  # checks all checksums; the image cannot be used afterwards
    with Image.open(path, formats=FORMATS) as image:
        header = _described(image, policy)
        frames = [_pixels(frame, policy) for frame in ImageSequence.Iterator(image)]
    if len(frames) == 1:
        return Scan(frames[0], np.eye(4), header)
    values, finding = pick_frame(np.stack(frames, axis=-1), policy)
    return Scan(compact(values), np.eye(4), replace(header, findings=(finding,)))


def _described(image: Image.Image, policy: Policy) -> Header:
    rows, columns = _refuse_size_of(image, policy)
    if image.getexif().get(EXIF_ORIENTATION) in ROTATED:  # of a PNG, this decodes the pixels
        rows, columns = columns, rows
    deep = image.mode.startswith(("I", "F"))
    channels = {"L": 1, "LA": 1, "1": 1, "RGBA": 4}.get(image.mode, 1 if deep else 3)
    return Header((rows, columns), channels, (1.0, 1.0), 16 if deep else 8)


def _refuse_size_of(image: Image.Image, policy: Policy) -> tuple[int, int]:
    """Check the declared frames and size before any pixel is decoded; return rows and columns as stored."""
    frames = getattr(image, "n_frames", 1)
    refuse_frames(frames, policy)
    refuse_size((image.height, image.width, frames), policy)
    return image.height, image.width


def _pixels(image: Image.Image, policy: Policy) -> NDArray[Any]:
    """Convert to (C, rows, columns): palettes, CMYK and YCbCr to RGB, grey with transparency to grey."""
    refuse_size((image.height, image.width), policy)  # each frame declares its own
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("LA", "1"):
        upright = upright.convert("L")
    elif not upright.mode.startswith(AS_STORED):
        upright = upright.convert("RGB")
    pixels = np.asarray(upright)
    stacked = pixels[np.newaxis] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return compact(np.ascontiguousarray(stacked))
