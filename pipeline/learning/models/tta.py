"""Further tta at a case when it is evaluated, always the same ones: its mirror image, and crops of it."""

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor

View = Literal["mirror", "crops"]
CROP = 7 / 8  # of the rows and columns; the centre and the four corners (Krizhevsky et al. 2012, section 4.1)


def augmented_views(channels: Tensor, tta: Sequence[View]) -> Iterator[Tensor]:
    """Give the further tta at channels (B, P, H, W): (B, P, H', W') each; crops of the mirror image, too, if both."""
    sides = [channels, channels.flip(-1)] if "mirror" in tta else [channels]
    yield from sides[1:]
    for side in sides if "crops" in tta else ():
        yield from _crops(side)


def _crops(channels: Tensor) -> Iterator[Tensor]:
    """Cut out the centre and the four corners."""
    height, width = channels.shape[-2:]
    rows, columns = round(height * CROP), round(width * CROP)
    down, right = height - rows, width - columns
    for top, left in ((down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)):
        yield channels[..., top : top + rows, left : left + columns]
