"""Evidence, label after label, that forecast probabilities are no longer right."""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, logsumexp

from pipeline.assessing.figures.calibration import logit

Floats = NDArray[np.float64]

INTERCEPTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
SLOPES = (0.5, 1.0, 2.0)
RIGHT = (0.0, 1.0)  # intercept and slope of forecasts that need no correction


def miscalibration(confidence: Floats, events: NDArray[np.bool_]) -> Floats:
    """Bet that logit P(y) = a + b logit p holds for some a and b other than 0 and 1 (Cox 1958).

    Each gambler believes in one pair and wins the likelihood ratio; the capital is what they hold on average. If every
    event has the probability that was forecast, whatever came before, the chance that it ever reaches c is at most
    1 / c (a test martingale; Arnold, Henzi, Ziegel 2023, "Sequentially valid tests for forecast calibration").

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
    pairs = np.array([pair for pair in itertools.product(INTERCEPTS, SLOPES) if pair != RIGHT])
    believed = log_expit(sign * (pairs[:, :1] + pairs[:, 1:] * offset))
    gained = np.cumsum(believed - log_expit(sign * offset), axis=1)
    return np.asarray(logsumexp(gained, axis=0) - np.log(len(pairs)))
