"""Combine sequential tests into one test martingale."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SWITCHING = 0.01  # share of the wealth that is redistributed evenly before each outcome


def wealth(factors: Floats) -> Floats:
    """Compute the wealth of a fixed-share mixture of G test martingales (Herbster and Warmuth 1998).

    Before each outcome, 1% of the wealth is redistributed evenly among the components, so that a component that starts
    to grow late still has wealth to grow from. If each factor has mean 1 given the past (under the null hypothesis),
    the mixture is a test martingale: it starts at 1, and the probability that it ever reaches c is at most 1 / c
    (Ville 1939).

    Parameters
    ----------
    factors : (n, G)
        Factor of each component at each outcome, 0 or more: a likelihood ratio against the null hypothesis.

    Returns
    -------
    (n,)
        Natural logarithm of the wealth after each outcome.
    """
    steps, components = factors.shape
    shares, logs = np.full(components, 1 / components), np.zeros(steps)
    for step, factor in enumerate(factors):
        shares = ((1 - SWITCHING) * shares + SWITCHING / components) * factor
        logs[step] = np.log(shares.sum())
        shares = shares / shares.sum()
    return np.cumsum(logs)
