"""Tell how deep the pixels of a PNG or TIFF are, and read those that Pillow reduces to 8 bits without a word."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.imaging.reading.scan import Unreadable, compact

BITS, PHOTOMETRIC, SAMPLES, PLANAR, FORMAT = 258, 262, 277, 284, 339  # tags of TIFF
WHITE_IS_ZERO, CMYK, CIELAB = 0, 5, (8, 9, 10)
UNSIGNED, SIGNED = 1, 2
MIRRORED, QUARTERS = {2: 1, 4: 0}, {3: 2, 6: -1, 7: 2, 8: 1}  # orientations of EXIF: axes, and quarters of a turn
CHANNELS_OF_PNG, GREY_WITH_ALPHA = {2: 3, 6: 4}, 4  # by the type of colour


@dataclass(frozen=True)
class Depth:
    """Describe pixels that Pillow does not read as they are stored.

    Attributes
    ----------
    bits, channels : int
        0 where Pillow's mode tells.
    by_itk : bool
        Whether only SimpleITK reads them to their full depth.
    kind : str
        numpy's name of the stored type, if Pillow returns its bits as another.
    white_is_zero : int
        The value that is black, if high values are dark; else 0.
    """

    bits: int = 0
    channels: int = 0
    by_itk: bool = False
    kind: str = ""
    white_is_zero: int = 0

    def corrected(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Read Pillow's bits as the type that is stored, bright where values are high."""
        if self.kind:
            pixels = pixels.view(self.kind)
        return self.white_is_zero - pixels.astype(np.int64) if self.white_is_zero else pixels


def depth_of(path: Path, image: Image.Image) -> Depth:
    """Find how a PNG or TIFF stores its pixels; other formats have 8 bits.

    Raises
    ------
    Unreadable
        If nothing here reads them to their full depth; the message names them.
    """
    if image.format == "PNG":
        with path.open("rb") as file:
            bits, colour = file.read(26)[24:26]
        if bits == 16 and colour == GREY_WITH_ALPHA:
            raise Unreadable("colours", "grey of 16 bits with alpha is not supported; save it as grey without alpha")
        return Depth(16, CHANNELS_OF_PNG[colour], by_itk=True) if bits == 16 and colour in CHANNELS_OF_PNG else Depth()
    return _of_tiff(getattr(image, "tag_v2", None)) if image.format == "TIFF" else Depth()


def _of_tiff(tags: Any) -> Depth:
    bits = int(max(np.atleast_1d(tags.get(BITS, 1))))
    samples, photometric = int(tags.get(SAMPLES, 1)), int(tags.get(PHOTOMETRIC, 1))
    stored = int(max(np.atleast_1d(tags.get(FORMAT, UNSIGNED))))
    if photometric in CIELAB:
        raise Unreadable("colours", "its colours are CIELAB, not RGB; save it as RGB")
    if samples > 1 and bits > 8:
        if photometric == CMYK:
            raise Unreadable("colours", f"its colours are CMYK of {bits} bits, not RGB; save it as RGB")
        if int(tags.get(PLANAR, 1)) != 1 or samples not in (3, 4):
            raise Unreadable(
                "colours", f"it has {samples} samples of {bits} bits each; save it with interleaved colours"
            )
        return Depth(bits, samples, by_itk=True)
    if photometric == WHITE_IS_ZERO and bits > 8:
        if stored != UNSIGNED:
            raise Unreadable("colours", "zero is white, but its values are signed; save it with zero as black")
        return Depth(bits, white_is_zero=2**bits - 1, kind="uint32" if bits == 32 else "")
    if stored == SIGNED and bits == 8:
        if photometric == WHITE_IS_ZERO:
            raise Unreadable("colours", "zero is white, but its values are signed; save it with zero as black")
        return Depth(16, kind="int8")
    return Depth(kind="uint32") if stored == UNSIGNED and bits == 32 and samples == 1 else Depth()


def deep_pixels(path: Path, orientation: int) -> NDArray[Any]:
    """Read the pixels through SimpleITK as (C, rows, columns), and turn them upright.

    Parameters
    ----------
    orientation : int
        Of EXIF, from 1 to 8.
    """
    import SimpleITK  # not above: few images need it

    pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    pixels = pixels[0] if pixels.ndim == 4 else pixels
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    if orientation in MIRRORED:
        pixels = np.flip(pixels, MIRRORED[orientation])
    turned = np.rot90(pixels, QUARTERS.get(orientation, 0))
    return compact(np.ascontiguousarray(np.moveaxis(turned, -1, 0)))
