"""Turns logits into probabilities that mean what they say: one number, fitted on cases the model was not trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LIMITS = (0.05, 100.0)


@dataclass(frozen=True)
class Temperature:
    """p = softmax(logits / T). Above 1 it takes confidence away; the most probable class stays."""

    value: float

    def apply(self, logits: Floats) -> Floats:
        """Turn (n, K) logits into (n, K) probabilities."""
        return np.asarray(softmax(logits / self.value, axis=1))


def fit_temperature(logits: Floats, labels: Ints) -> Temperature:
    """Find the temperature of the lowest log-loss (Guo, Pleiss, Sun, Weinberger 2017, section 4.2).

    Parameters
    ----------
    logits : (n, K)
        Of cases that the model was not trained on.
    labels : (n,) int

    Returns
    -------
    Temperature
        Between 0.05 and 100; a limit is reached where the classes are separated, or the logits say nothing.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-8})
    return Temperature(float(np.exp(found.x)))


def cross_fitted(logits: Floats, labels: Ints, folds: NDArray[np.str_]) -> tuple[Floats, dict[str, float]]:
    """Calibrate each fold by the temperature of all the other folds, so that no case is judged by its own fit.

    Returns
    -------
    probabilities : (n, K)
    temperatures : dict
        The one applied to each fold.

    Raises
    ------
    ValueError
        If there are fewer than two folds.
    """
    names = sorted(set(folds))
    if len(names) < 2:
        raise ValueError("cross-fitting needs at least two folds")
    probabilities = np.zeros_like(logits)
    temperatures = {}
    for name in names:
        judged = folds == name
        calibrator = fit_temperature(logits[~judged], labels[~judged])
        probabilities[judged] = calibrator.apply(logits[judged])
        temperatures[name] = calibrator.value
    return probabilities, temperatures
