"""Evidence, label after label, that prediction probabilities are no longer right."""

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
    """Bet that logit P(y) = a + b logit p holds for some a and b other than 0 and 1 (Cox 1958).

    Each bettor believes in one pair and wins the likelihood ratio, which is 1 on average if every event has the
    probability that was predicted, whatever came before (Arnold, Henzi, Ziegel 2023, "Sequentially valid tests for
    prediction calibration"). One of them believes the predictions, and keeps what he has for later.

    Parameters
    ----------
    confidence : (n,)
        Prediction probabilities, in the order in which their events became known.
    events : (n,)

    Returns
    -------
    (n,)
        The natural logarithm of the wealth after each event.
    """
    offset, sign = logit(confidence), np.where(events, 1.0, -1.0)
    pairs = np.array(list(itertools.product(INTERCEPTS, SLOPES)))
    believed = log_expit(sign[:, None] * (pairs[:, 0] + np.outer(offset, pairs[:, 1])))
    return wealth(np.exp(believed - log_expit(sign * offset)[:, None]))


def waiting(log_wealth: Floats, rows: Ints, n: int) -> Floats:
    """Spread a wealth (m,) over n patients: it stays what it is at those whose event is not known.

    Parameters
    ----------
    log_wealth : (m,)
    rows : (m,)
        Which of the n patients it was wagered on, ascending.
    n : int

    Returns
    -------
    (n,)
    """
    steps = np.zeros(n)
    steps[rows] = np.diff(log_wealth, prepend=0.0)
    return np.cumsum(steps)


def pooled(log_capitals: Sequence[Floats]) -> Floats:
    """Assign one wealth out to several labels at the beginning: the logarithm (n,) of the mean of theirs, (n,) each.

    The mean of test martingales is one, however the labels of a patient go together, if all of a patient are revealed
    at once: each holds on average, given all patients before, what it held. It finds whatever a chart for each of C
    labels finds by Bonferroni's limit, and often earlier, since a mean is at least the C-th part of the largest (Vovk
    and Wang 2021, "E-values: calibration, combination and applications", proposition 3.1: the mean dominates
    whatever else treats all alike). Which labels are not known must not hang on what they would have been.
    """
    return np.asarray(logsumexp(log_capitals, axis=0) - np.log(len(log_capitals)))
