"""Evidence, label after label, that forecast probabilities are no longer right."""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit

from pipeline.assessing.figures.calibration import logit
from pipeline.assessing.monitoring.betting import capital

Floats = NDArray[np.float64]

INTERCEPTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
SLOPES = (0.5, 1.0, 2.0)


def miscalibration(confidence: Floats, events: NDArray[np.bool_]) -> Floats:
    """Bet that logit P(y) = a + b logit p holds for some a and b other than 0 and 1 (Cox 1958).

    Each gambler believes in one pair and wins the likelihood ratio, which is 1 on average if every event has the
    probability that was forecast, whatever came before (Arnold, Henzi, Ziegel 2023, "Sequentially valid tests for
    forecast calibration"). One of them believes the forecasts, and keeps what he has for later.

    Parameters
    ----------
    confidence : (n,)
        Forecast probabilities, in the order in which their events became known.
    events : (n,)

    Returns
    -------
    (n,)
        The natural logarithm of the capital after each event.
    """
    offset, sign = logit(confidence), np.where(events, 1.0, -1.0)
    pairs = np.array(list(itertools.product(INTERCEPTS, SLOPES)))
    believed = log_expit(sign[:, None] * (pairs[:, 0] + np.outer(offset, pairs[:, 1])))
    return capital(np.exp(believed - log_expit(sign * offset)[:, None]))
