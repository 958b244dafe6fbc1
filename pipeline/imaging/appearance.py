"""Summary statistics of a scan without a network: grey values, roughness, and where it is bright.

A network may map a blank or a rotated scan to ordinary features; these numbers do not.
"""

import numpy as np
from numpy.typing import NDArray

GREYS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BLOCKS = 4  # per side


def appearance(channels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Describe the channels of a case.

    Parameters
    ----------
    channels : (P, H, W) uint8
        Prepared case; H and W are at least `BLOCKS`.

    Returns
    -------
    (28,) float64
        Quantiles of the grey values (0 to 255); log(1 + x) of the mean absolute difference between rows, between
        columns, and of the standard deviation; the correlation of neighbouring pixels along columns and along rows;
        the mean of each of 4 x 4 blocks of the mean channel, row by row.
    """
    greys = channels.astype(np.float64)
    steps = [np.abs(np.diff(greys, axis=axis)).mean() for axis in (1, 2)]
    centred = greys - greys.mean()
    variance = (centred**2).mean() + 1e-3  # so that the correlations of a blank scan are 0
    next_to = [(centred[:, 1:] * centred[:, :-1]).mean(), (centred[..., 1:] * centred[..., :-1]).mean()]
    return np.concatenate(
        [
            np.quantile(greys, GREYS),
            np.log1p([*steps, greys.std()]),
            np.array(next_to) / variance,
            _blocks(greys.mean(axis=0)),
        ]
    )


def _blocks(channel: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = (np.linspace(0, side, BLOCKS + 1).astype(int) for side in channel.shape)
    sums = np.add.reduceat(np.add.reduceat(channel, rows[:-1], axis=0), columns[:-1], axis=1)
    return np.asarray((sums / np.outer(np.diff(rows), np.diff(columns))).ravel())
