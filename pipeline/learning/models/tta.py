"""Predict a case from several views (test-time augmentation), and set up the adaptation to single cases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

View = Literal["mirror", "crops"]
CROP = 7 / 8  # of the rows and columns; the centre and the four corners (Krizhevsky et al. 2012, section 4.1)


@dataclass(frozen=True)
class TestTime:
    """Settings of the prediction of a case.

    Attributes
    ----------
    tta : sequence of {"mirror", "crops"}
        Test-time augmentation: views of a case whose logits are averaged with those of the case itself.
    tent_steps : int
        Steps of the adaptation to every single case before it is predicted (`tent.adapted`); 0 is none.
    tent_rate : float
        Learning rate of these steps.
    """

    tta: Sequence[View] = ()
    tent_steps: int = 0
    tent_rate: float = 1e-3


def augmented_views(channels: Tensor, tta: Sequence[View]) -> Iterator[Tensor]:
    """Yield the augmented views of channels (B, P, H, W): (B, P, H', W') each, the same ones in every run.

    "mirror" is the mirror image, "crops" are the centre and the four corners; with both, the mirror image is cropped
    as well. The case itself is not among them.
    """
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
