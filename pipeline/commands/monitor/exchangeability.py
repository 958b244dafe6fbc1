"""Test, scan after scan, whether new values are exchangeable with those of the development data.

A conformal test martingale (Vovk, Nouretdinov, Gammerman 2003, "Testing exchangeability on-line") ranks each new value
among the development values and all earlier new values. Under exchangeability these ranks are independent and uniform,
and the wealth stays small, no matter for how long or how often it is checked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.commands.monitor.martingale import wealth
from pipeline.commands.monitor.scans import Monitored
from pipeline.seeds import seed_for

Floats = NDArray[np.float64]
Tests = dict[str, tuple[Floats, pd.DataFrame]]  # by name the logarithm of the wealth, and the patients that it follows

HIGHER, LOWER, UNCHANGED = 1.0, -1.0, 0.0  # slopes b of the alternative densities of ranks


def conformal_ranks(reference: Floats, values: Floats, seed: int) -> Floats:
    """Rank each value among the reference and all values before it; break ties at random.

    Parameters
    ----------
    reference : (m,)
        One value for each development patient.
    values : (n,)
        One value for each new patient, in temporal order.
    seed : int
        Seed of the random ties.

    Returns
    -------
    (n,)
        Ranks in [0, 1], near 1 for large values; independent and uniform if all m + n values are exchangeable.
    """
    ties = np.random.default_rng(seed).random(len(values))
    known = np.concatenate([reference, values])
    ranks = []
    for number, tie in enumerate(ties, start=len(reference) + 1):
        seen, value = known[:number], known[number - 1]
        ranks.append(((seen < value).sum() + tie * (seen == value).sum()) / number)
    return np.array(ranks, dtype=np.float64)


def drift(reference: Floats, values: Floats, seed: int, only_higher: bool = False) -> Floats:
    """Test whether new values follow the distribution of the development values.

    The alternatives are higher or lower values (location), and more or less dispersed values (scale). The mean of the
    two martingales is a test martingale as well.

    Parameters
    ----------
    reference, values : (m,), (n,)
        See `conformal_ranks`.
    seed : int
    only_higher : bool
        Test against higher values only, for a quantity that is a problem only if it rises.

    Returns
    -------
    (n,)
        Natural logarithm of the wealth after each value.
    """
    ranks = conformal_ranks(reference, values, seed)
    if only_higher:
        return wealth(likelihood_ratios(ranks, [UNCHANGED, HIGHER]))
    slopes = [LOWER, UNCHANGED, HIGHER]
    location, scale = (wealth(likelihood_ratios(one, slopes)) for one in (ranks, 2 * np.abs(ranks - 0.5)))
    return np.asarray(np.logaddexp(location, scale) - np.log(2))


def likelihood_ratios(ranks: Floats, slopes: Sequence[float]) -> Floats:
    """Evaluate the densities 1 + b (u - 1/2) at ranks u (n,), for each slope b: (n, G).

    These are the alternatives of the "Simple Jumper" (Vovk et al. 2021, "Retrain or not retrain", algorithm 1). The
    density under the null hypothesis is 1.
    """
    return 1 + np.outer(ranks - 0.5, slopes)


def drift_wealth(name: str, reference: Floats, values: Floats, only_higher: bool = False) -> Floats:
    """Test whether a value changed. The seed breaks ties in the same way each time that the command runs."""
    return drift(reference, values, seed_for(0, "monitor", name), only_higher)


def scan_tests(monitored: Monitored, reference: Mapping[str, Any], called: str) -> Tests:
    """Test whether predictions, OOD scores and the share of readable scans are as in development.

    The charts of predictions are called so, followed by the name of the class.
    """
    everyone, read = monitored.patients, monitored.read
    found: Tests = {
        f"{called}{name}": (drift_wealth(name, np.array(values), read[name].to_numpy(float)), read)
        for name, values in reference["predictions"].items()
    }
    if "ood_score" in monitored.scans:
        known, now = np.array(reference["ood_score"]), read["ood_score"].to_numpy(float)
        found["out-of-distribution score"] = (drift_wealth("ood_score", known, now, only_higher=True), read)
    unread = np.repeat([0.0, 1.0], [reference["scans"] - reference["refused"], reference["refused"]])
    now = everyone[monitored.classes[0]].isna().to_numpy(float)
    found["unreadable scans"] = (drift_wealth("refused", unread, now, only_higher=True), everyone)
    return found
