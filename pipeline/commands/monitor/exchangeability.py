"""Evidence, scan after scan, that new values are no longer exchangeable with those of development.

A conformal test martingale (Vovk, Nouretdinov, Gammerman 2003, "Testing exchangeability on-line"): each new value is
ranked among those of development and all new ones before it. Where nothing changed these ranks are independent and
uniform, and nobody wins by betting on them, however long and however often one looks.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.commands.monitor.martingale import wealth

Floats = NDArray[np.float64]

HIGHER, LOWER, AS_BEFORE = 1.0, -1.0, 0.0  # what is bet on: the slope of the density of ranks


def conformal_ranks(reference: Floats, values: Floats, seed: int) -> Floats:
    """Rank each value among the reference and all values before it; equal values are ordered by lot.

    Parameters
    ----------
    reference : (m,)
        One value for each patient of development.
    values : (n,)
        One value for each new patient, in the order of time.
    seed : int

    Returns
    -------
    (n,)
        In [0, 1], independent and uniform if all m + n values are exchangeable; near 1 for a large value.
    """
    lots = np.random.default_rng(seed).random(len(values))
    known = np.concatenate([reference, values])
    ranks = []
    for number, lot in enumerate(lots, start=len(reference) + 1):
        seen, value = known[:number], known[number - 1]
        ranks.append(((seen < value).sum() + lot * (seen == value).sum()) / number)
    return np.array(ranks, dtype=np.float64)


def drift(reference: Floats, values: Floats, seed: int, only_higher: bool = False) -> Floats:
    """Bet that values are other than those of development: higher or lower, or more or less spread out.

    The wealth is halved between place and spread, so that what they hold together is a martingale as well.

    Parameters
    ----------
    reference, values : (m,), (n,)
        As of `conformal_ranks`.
    seed : int
    only_higher : bool
        Bet on higher values alone, of a metric that is only then alarming.

    Returns
    -------
    (n,)
        The logarithm of the wealth after each value.
    """
    ranks = conformal_ranks(reference, values, seed)
    if only_higher:
        return wealth(gains(ranks, AS_BEFORE, HIGHER))
    place, spread = (wealth(gains(one, LOWER, AS_BEFORE, HIGHER)) for one in (ranks, 2 * np.abs(ranks - 0.5)))
    return np.asarray(np.logaddexp(place, spread) - np.log(2))


def gains(ranks: Floats, *slopes: float) -> Floats:
    """Bet on the densities 1 + b (u - 1/2) of uniform ranks u (n,): (n, G).

    The bets of the "Simple Jumper" (Vovk et al. 2021, "Retrain or not retrain", algorithm 1).
    """
    return 1 + np.outer(ranks - 0.5, slopes)
