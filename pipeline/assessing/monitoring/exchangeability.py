"""Evidence, scan after scan, that new values are no longer exchangeable with those of development.

A conformal test martingale (Vovk, Nouretdinov, Gammerman 2003, "Testing exchangeability on-line"): each new value is
ranked among those of development and all new ones before it. Where nothing changed these ranks are independent and
uniform, and a gambler who bets on them wins nothing in the long run: the chance that the capital ever reaches c times
what it began with is at most 1 / c (Ville 1939), however long and however often one looks.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SWITCHING = 0.01  # share of the capital that is dealt out anew before each bet
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


def capital(ranks: Floats, bets: Sequence[float] = (LOWER, AS_BEFORE, HIGHER)) -> Floats:
    """Bet on uniform ranks; give the logarithm of the capital after each, which began as 1.

    The "Simple Jumper" (Vovk et al. 2021, "Retrain or not retrain", algorithm 1): the capital is split over gamblers
    who bet on the density 1 + b (u - 1/2), and a hundredth of it is dealt out anew before each bet, so that one who
    begins to win late is not yet broke.

    Parameters
    ----------
    ranks : (n,)
        In [0, 1].
    bets : sequence of float
        In [-2, 2]; those above 0 win by values that are larger than before.

    Returns
    -------
    (n,)
        Natural logarithms.
    """
    slopes, shares, logs, log = np.asarray(bets), np.full(len(bets), 1 / len(bets)), [], 0.0
    for rank in ranks:
        shares = (1 - SWITCHING) * shares + SWITCHING / len(bets)
        shares = shares * (1 + slopes * (rank - 0.5))
        log += float(np.log(shares.sum()))
        shares = shares / shares.sum()
        logs.append(log)
    return np.array(logs, dtype=np.float64)


def drift(reference: Floats, values: Floats, seed: int, only_higher: bool = False) -> Floats:
    """Bet that values are other than those of development: higher or lower, or more or less spread out.

    The capital is halved between place and spread, so that what they hold together is a martingale as well.

    Parameters
    ----------
    reference, values : (m,), (n,)
        As of `conformal_ranks`.
    seed : int
    only_higher : bool
        Bet on higher values alone, of a figure that is only then alarming.

    Returns
    -------
    (n,)
        The logarithm of the capital after each value.
    """
    ranks = conformal_ranks(reference, values, seed)
    if only_higher:
        return capital(ranks, (AS_BEFORE, HIGHER))
    return np.asarray(np.logaddexp(capital(ranks), capital(2 * np.abs(ranks - 0.5))) - np.log(2))
