"""Read PNG, JPEG and TIFF images as (C, rows, columns), upright as the file states, to their full depth."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from pipeline.imaging.reading.image_depth import Depth, deep_pixels, depth_of
from pipeline.imaging.reading.proportions import spacing_of_image
from pipeline.imaging.reading.scan import (
    Finding,
    Header,
    Policy,
    Scan,
    Unreadable,
    compact,
    pick_frame,
    refuse_frames,
    refuse_size,
)

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

GREY = ("L", "I", "F", "LA")
AS_STORED = (*GREY, "RGB", "RGBA")
ROTATED = range(5, 9)  # EXIF orientations that exchange rows and columns
EXIF_ORIENTATION = 274
FORMATS = ("PNG", "JPEG", "TIFF")  # Pillow would also start other programs, e.g. for PostScript
SUBFILE, REDUCED = 254, 1  # tag and flag of a TIFF page that is a smaller copy of another

Image.MAX_IMAGE_PIXELS = None  # `Policy.max_voxels` is the limit


def read_header(path: Path, policy: Policy) -> Header:
    """Read size, channels and bit depth without the pixels."""
    with _opened(path) as image:
        return _described(image, depth_of(path, image), policy)


def read_scan(path: Path, policy: Policy) -> Scan:
    """Read the pixels; verify the checksums of a PNG and apply the EXIF orientation."""
    with _opened(path) as image:
        _refuse_size_of(image, policy)
        if image.format == "PNG":
            image.verify()  # checks all checksums; the image cannot be used afterwards
    with _opened(path) as image, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        depth = depth_of(path, image)
        header = _described(image, depth, policy)
        if depth.by_itk:
            frames = [deep_pixels(path, image.getexif().get(EXIF_ORIENTATION, 1))]
        else:
            frames = [_pixels(frame, depth, policy) for frame in _pages(image)]
    findings = (*header.findings, *_of_decoder(told))
    if len(frames) == 1:
        return Scan(frames[0], np.eye(4), replace(header, findings=findings))
    values, finding = pick_frame(np.stack(frames, axis=-1), policy)
    return Scan(compact(values), np.eye(4), replace(header, findings=(*findings, finding)))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        detail = (
            "it is damaged, or its pixels are of a kind that is not supported, such as grey of 16 bits with alpha, "
            "colour in floating point, or floating point of 16 or 64 bits; save it with integers of 8 or 16 bits"
        )
        raise Unreadable("unreadable", detail) from error
    with image:
        yield image


def _pages(image: Image.Image) -> Iterator[Image.Image]:
    """Yield the images of a file, without smaller copies, and without the second image of a phone."""
    if image.format == "MPO":
        yield image
        return
    for page in ImageSequence.Iterator(image):
        if not int(getattr(page, "tag_v2", {}).get(SUBFILE, 0)) & REDUCED:
            yield page


def _described(image: Image.Image, depth: Depth, policy: Policy) -> Header:
    frames, stored = _refuse_size_of(image, policy), getattr(image, "n_frames", 1)
    rows, columns = image.height, image.width
    spacing = spacing_of_image(image)
    if image.getexif().get(EXIF_ORIENTATION) in ROTATED:  # of a PNG, this decodes the pixels
        rows, columns, spacing = columns, rows, spacing[::-1]
    findings = []
    if stored > frames:
        detail = f"{stored - frames} smaller or further images in the file were left out"
        findings.append(Finding("frames", detail, "warned"))
    if image.mode == "CMYK":
        findings.append(Finding("colours", "CMYK was converted to RGB without its colour profile", "warned"))
    deep = image.mode.startswith(("I", "F"))
    channels = {"L": 1, "LA": 1, "1": 1, "RGBA": 4}.get(image.mode, 1 if deep else 3)
    bits = depth.bits or (16 if deep else 8)
    return Header((rows, columns), depth.channels or channels, spacing, bits, findings=tuple(findings), in_mm=False)


def _refuse_size_of(image: Image.Image, policy: Policy) -> int:
    """Check the declared images and their size before any pixel is decoded; return their number."""
    frames: int = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in ("TIFF", "MPO"):  # reading on to the next frame of a PNG would decode this one
        frames = sum(1 for _ in _pages(image))
        image.seek(0)
    refuse_frames(frames, policy)
    refuse_size((image.height, image.width, frames), policy)
    return frames


def _pixels(image: Image.Image, depth: Depth, policy: Policy) -> NDArray[Any]:
    """Convert to (C, rows, columns): palettes, CMYK and YCbCr to RGB, grey with transparency to grey."""
    refuse_size((image.height, image.width), policy)  # each frame declares its own
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("LA", "1"):
        upright = upright.convert("L")
    elif not upright.mode.startswith(AS_STORED):
        upright = upright.convert("RGB")
    pixels = depth.corrected(np.asarray(upright))
    stacked = pixels[np.newaxis] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return compact(np.ascontiguousarray(stacked))


def _of_decoder(told: list[warnings.WarningMessage]) -> Iterator[Finding]:
    """Report that the decoder warned; its text may name the file, so only its kind is repeated."""
    kinds = sorted({one.category.__name__ for one in told if not issubclass(one.category, ResourceWarning)})
    if kinds:
        yield Finding("decoder", f"the decoder warned of a fault of the file ({', '.join(kinds)})", "warned")
