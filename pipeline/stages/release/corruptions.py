"""Corrupt scans of the cohort, to test out-of-distribution detection on them."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Channels = NDArray[np.uint8]
Corrupt = Callable[[Channels, np.random.Generator], Channels]

TILES = 4  # along each side


def blank(channels: Channels, rng: np.random.Generator) -> Channels:
    """Show only air: the faint noise of a scanner."""
    return rng.integers(0, 6, channels.shape, dtype=np.uint8)


def noise(channels: Channels, rng: np.random.Generator) -> Channels:
    """Replace every grey value by a random one."""
    return rng.integers(0, 256, channels.shape, dtype=np.uint8)


def inverted(channels: Channels, rng: np.random.Generator) -> Channels:
    """Invert the grey values."""
    return 255 - channels


def turned(channels: Channels, rng: np.random.Generator) -> Channels:
    """Rotate every channel by 90 degrees."""
    return np.ascontiguousarray(np.rot90(channels, axes=(1, 2)))


def shuffled(channels: Channels, rng: np.random.Generator) -> Channels:
    """Shuffle the tiles of every channel, in the same order for all channels."""
    count, side = len(channels), channels.shape[1] // TILES
    whole = channels[:, : side * TILES, : side * TILES]
    tiles = whole.reshape(count, TILES, side, TILES, side).swapaxes(2, 3).reshape(count, TILES**2, side, side)
    mixed = tiles[:, rng.permutation(TILES**2)].reshape(count, TILES, TILES, side, side).swapaxes(2, 3)
    corrupted = channels.copy()
    corrupted[:, : side * TILES, : side * TILES] = mixed.reshape(whole.shape)
    return corrupted


def chest(channels: Channels, rng: np.random.Generator) -> Channels:
    """Simulate slices of a chest: a body of random size with two dark lungs and a bright spine."""
    size = channels.shape[1]
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    stretch = rng.uniform(0.85, 1.1, 2)

    def oval(row: float, column: float, high: float, wide: float) -> NDArray[np.bool_]:
        inside = ((rows - row) / (high * stretch[0])) ** 2 + ((columns - column) / (wide * stretch[1])) ** 2 < 1
        return np.asarray(inside)

    image = np.zeros((size, size))
    image[oval(0, 0, 0.6, 0.85)] = 120
    for side in (-0.38, 0.38):
        image[oval(-0.05, side, 0.42, 0.27)] = 25
    image[oval(0.42, 0, 0.13, 0.13)] = 220
    image[oval(-0.1, 0.1, 0.25, 0.2)] = 150
    grains = rng.normal(0, 8, channels.shape)
    return np.asarray((image + grains).clip(0, 255).round(), dtype=np.uint8)


CORRUPTED: Mapping[str, Corrupt] = {
    "blank": blank,
    "noise": noise,
    "inverted": inverted,
    "turned by 90 degrees": turned,
    "shuffled tiles": shuffled,
    "simulated chest": chest,
}
