"""Turns logits into probabilities that mean what they say: one number, fitted on cases the model was not trained on."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = NDArray[Any]  # (n,) numbers of classes, or (n, C) with NaN for what is not known
Activation = Literal["softmax", "sigmoid"]
LIMITS = (0.05, 100.0)


@dataclass(frozen=True)
class Temperature:
    """p = softmax(logits / T), or sigmoid of each by itself. Above 1 it takes confidence away; the order stays."""

    value: float
    activation: Activation = "softmax"

    def apply(self, logits: Floats) -> Floats:
        """Turn (n, K) logits into (n, K) probabilities; rows sum to one unless the activation is sigmoid."""
        scaled = logits / self.value
        return np.asarray(expit(scaled) if self.activation == "sigmoid" else softmax(scaled, axis=1))


def activation_for(labels: Labels) -> Activation:
    """Take sigmoid for labels that stand each by itself (n, C), softmax for the numbers of classes (n,)."""
    return "sigmoid" if labels.ndim == 2 else "softmax"


def fit_temperature(logits: Floats, labels: Labels) -> Temperature:
    """Find the temperature of the lowest log-loss (Guo, Pleiss, Sun, Weinberger 2017, section 4.2).

    Parameters
    ----------
    logits : (n, K)
        Of cases that the model was not trained on.
    labels : (n,) int or (n, K) float
        Numbers of the true classes; or, of any number of labels, 1 for there, 0 for not there and NaN for not known:
        one temperature is then fitted over all known pairs of case and label.

    Returns
    -------
    Temperature
        Between 0.05 and 100; a limit is reached where the classes are separated, or the logits say nothing.
    """

    def loss(log_temperature: float) -> float:
        return _mean_loss(logits / np.exp(log_temperature), labels)

    found = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-8})
    return Temperature(float(np.exp(found.x)), activation_for(labels))


def _mean_loss(logits: Floats, labels: Labels) -> float:
    """Log-loss in nats, per case, or per known pair of case and label."""
    if labels.ndim == 1:
        return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
    known = np.isfinite(labels)
    return float((np.logaddexp(0, logits[known]) - labels[known] * logits[known]).mean())


def cross_fitted(logits: Floats, labels: Labels, folds: NDArray[np.str_]) -> tuple[Floats, dict[str, float]]:
    """Calibrate each fold by the temperature of all the other folds, so that no case is judged by its own fit.

    `labels` are as `fit_temperature` takes them.

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
