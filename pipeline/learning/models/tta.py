"""Further looks at a case when it is judged, always the same ones: its mirror image, and crops of it."""

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor

Look = Literal["mirror", "crops"]
CROP = 7 / 8  # of the rows and columns; the centre and the four corners (Krizhevsky et al. 2012, section 4.1)


def looks_at(planes: Tensor, looks: Sequence[Look]) -> Iterator[Tensor]:
    """Give the further looks at planes (B, P, H, W): (B, P, H', W') each; crops of the mirror image, too, if both."""
    sides = [planes, planes.flip(-1)] if "mirror" in looks else [planes]
    yield from sides[1:]
    for side in sides if "crops" in looks else ():
        yield from _crops(side)


def _crops(planes: Tensor) -> Iterator[Tensor]:
    """Cut out the centre and the four corners."""
    height, width = planes.shape[-2:]
    rows, columns = round(height * CROP), round(width * CROP)
    down, right = height - rows, width - columns
    for top, left in ((down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)):
        yield planes[..., top : top + rows, left : left + columns]
