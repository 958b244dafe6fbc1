"""Test, label after label, whether predicted probabilities are still calibrated."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, logsumexp

from pipeline.commands.monitor.martingale import wealth
from pipeline.metrics.calibration import logit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INTERCEPTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
SLOPES = (0.5, 1.0, 2.0)


def miscalibration(confidence: Floats, events: NDArray[np.bool_]) -> Floats:
    """Test whether predicted probabilities are calibrated.

    The alternatives are logit P(y) = a + b logit p (Cox 1958) for each pair of `INTERCEPTS` and `SLOPES`; each
    component of the martingale is the likelihood ratio of one pair, which has mean 1 if every event has its predicted
    probability, whatever came before (Arnold, Henzi, Ziegel 2023, Annals of Applied Statistics 17(3)). The pair (0, 1)
    is the null hypothesis; its component keeps its wealth for later changes.

    Parameters
    ----------
    confidence : (n,)
        Predicted probabilities, in the order in which the events became known.
    events : (n,)

    Returns
    -------
    (n,)
        Natural logarithm of the wealth after each event.
    """
    offset, sign = logit(confidence), np.where(events, 1.0, -1.0)
    pairs = np.array(list(itertools.product(INTERCEPTS, SLOPES)))
    alternative = log_expit(sign[:, None] * (pairs[:, 0] + np.outer(offset, pairs[:, 1])))
    return wealth(np.exp(alternative - log_expit(sign * offset)[:, None]))


def carried_forward(log_wealth: Floats, rows: Ints, n: int) -> Floats:
    """Extend a wealth (m,) to n patients: it stays constant at patients whose event is unknown.

    Parameters
    ----------
    log_wealth : (m,)
    rows : (m,)
        Indices, ascending, of the patients whose event is known.
    n : int

    Returns
    -------
    (n,)
    """
    steps = np.zeros(n)
    steps[rows] = np.diff(log_wealth, prepend=0.0)
    return np.cumsum(steps)


def mean_wealth(log_wealths: Sequence[Floats]) -> Floats:
    """Average the wealth of several labels, each given and returned as logarithm (n,).

    The mean of test martingales is a test martingale for any dependence between the labels, if all labels of a patient
    are revealed at once. It detects whatever separate charts with Bonferroni's limit detect, often earlier, because the
    mean over C labels is at least 1 / C of the largest (Vovk and Wang 2021, "E-values: calibration, combination and
    applications", proposition 3.1: the mean dominates every other symmetric combination). Which labels are unknown must
    not depend on their values.
    """
    return np.asarray(logsumexp(log_wealths, axis=0) - np.log(len(log_wealths)))
