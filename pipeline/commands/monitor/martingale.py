"""A wealth that is wagered on outcomes as they come: a martingale where the bets are fair."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SWITCHING = 0.01  # share of the wealth that is assigned out anew before each bet


def wealth(gains: Floats) -> Floats:
    """Split the wealth over bettors, splitting a hundredth of it out anew before each bet.

    So one who begins to win late is not yet broke (fixed share, Herbster and Warmuth 1998). Whatever the wealth is
    before an outcome, it is that on average after it, as long as every bettor's gain is 1 on average: a test
    martingale, which ever reaches c times what it began with in at most one case of c (Ville 1939).

    Parameters
    ----------
    gains : (n, G)
        By what each of G bettors multiplies what he holds, at each of n outcomes.

    Returns
    -------
    (n,)
        The natural logarithm of the wealth after each outcome; it began as 1.
    """
    steps, bettors = gains.shape
    shares, logs = np.full(bettors, 1 / bettors), np.zeros(steps)
    for step, gain in enumerate(gains):
        shares = ((1 - SWITCHING) * shares + SWITCHING / bettors) * gain
        logs[step] = np.log(shares.sum())
        shares = shares / shares.sum()
    return np.cumsum(logs)
