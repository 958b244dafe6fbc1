"""Scans that are none of the cohort's: its own planes spoilt, and a body that it does not show, to try an alarm on."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.uint8]
Spoil = Callable[[Planes, np.random.Generator], Planes]

TILES = 4  # along each side


def blank(planes: Planes, rng: np.random.Generator) -> Planes:
    """Leave air alone: nothing but the faint noise of a scanner."""
    return rng.integers(0, 6, planes.shape, dtype=np.uint8)


def noise(planes: Planes, rng: np.random.Generator) -> Planes:
    """Replace every grey value by one drawn at random."""
    return rng.integers(0, 256, planes.shape, dtype=np.uint8)


def inverted(planes: Planes, rng: np.random.Generator) -> Planes:
    """Turn white into black."""
    return 255 - planes


def turned(planes: Planes, rng: np.random.Generator) -> Planes:
    """Turn every plane by a right angle."""
    return np.ascontiguousarray(np.rot90(planes, axes=(1, 2)))


def shuffled(planes: Planes, rng: np.random.Generator) -> Planes:
    """Cut every plane into tiles and put them together in another order, the same for all planes."""
    count, side = len(planes), planes.shape[1] // TILES
    whole = planes[:, : side * TILES, : side * TILES]
    tiles = whole.reshape(count, TILES, side, TILES, side).swapaxes(2, 3).reshape(count, TILES**2, side, side)
    mixed = tiles[:, rng.permutation(TILES**2)].reshape(count, TILES, TILES, side, side).swapaxes(2, 3)
    spoilt = planes.copy()
    spoilt[:, : side * TILES, : side * TILES] = mixed.reshape(whole.shape)
    return spoilt


def chest(planes: Planes, rng: np.random.Generator) -> Planes:
    """Draw slices through a chest: a body with two dark lungs and a bright spine, of another size each time."""
    size = planes.shape[1]
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    stretch = rng.uniform(0.85, 1.1, 2)

    def oval(row: float, column: float, high: float, wide: float) -> NDArray[np.bool_]:
        inside = ((rows - row) / (high * stretch[0])) ** 2 + ((columns - column) / (wide * stretch[1])) ** 2 < 1
        return np.asarray(inside)

    picture = np.zeros((size, size))
    picture[oval(0, 0, 0.6, 0.85)] = 120
    for side in (-0.38, 0.38):
        picture[oval(-0.05, side, 0.42, 0.27)] = 25
    picture[oval(0.42, 0, 0.13, 0.13)] = 220
    picture[oval(-0.1, 0.1, 0.25, 0.2)] = 150
    grains = rng.normal(0, 8, planes.shape)
    return np.asarray((picture + grains).clip(0, 255).round(), dtype=np.uint8)


SPOILT: Mapping[str, Spoil] = {
    "blank": blank,
    "noise": noise,
    "inverted": inverted,
    "turned by 90 degrees": turned,
    "shuffled tiles": shuffled,
    "simulated chest": chest,
}
