"""Fits calibrators, on cases that the model was not trained on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from sklearn.isotonic import IsotonicRegression

from pipeline.metrics.calibrators.calibrator import (
    METHODS,
    Activation,
    Calibrator,
    Isotonic,
    LogLinear,
    PerLabel,
    Temperature,
    activation_for,
    beside_zero,
    calibrator_from,
    digest_of,
    identity_for,
    n_parameters_of,
    nested,
)

__all__ = [  # includes the calibrators, so that a caller needs one module
    "METHODS",
    "Activation",
    "Calibrator",
    "Isotonic",
    "LogLinear",
    "PerLabel",
    "Temperature",
    "Unsuitable",
    "activation_for",
    "calibrator_from",
    "digest_of",
    "fit",
    "fit_temperature",
    "identity_for",
    "suitable",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = NDArray[Any]  # (n,) numbers of classes, or (n, C) with NaN for what is not known

NONE = "none"  # no calibrator is fitted: the logits are not changed
LIMITS = (0.05, 100.0)  # of a temperature; a slope is limited to the inverses of these
ENOUGH_FOR_ISOTONIC = 1000  # cases; with fewer it overfits (scikit-learn's user guide, "Probability calibration")
CASES_PER_PARAMETER = 10  # least number, for vector and dirichlet
# Dirichlet: standard deviations of the normal priors, with mean 0, of an off-diagonal weight and of an intercept
SPREAD_OFF_DIAGONAL, SPREAD_OF_INTERCEPTS = 0.1, 1.0


class Unsuitable(ValueError):
    """A method does not suit the task or these cases; the message names one that does."""


def suitable(n_classes: int, task_is_multilabel: bool, n_cases: int) -> tuple[str, ...]:
    """List the methods that suit a task, in ascending number of parameters.

    Beta and isotonic calibration are for two classes or for labels of a multilabel task; vector scaling and Dirichlet
    calibration for more classes, with ten cases per parameter. Isotonic needs 1000 cases (for a label: known ones).
    """
    two = task_is_multilabel or n_classes == 2
    of_task = (NONE, "temperature", "platt", *(("beta", "isotonic") if two else ("vector", "dirichlet")))
    return tuple(method for method in of_task if n_cases >= _fewest_cases(method, n_classes))


def fit(method: str, logits: Floats, labels: Labels) -> Calibrator:
    """Fit a calibrator by maximum likelihood.

    none : nothing is fitted; the identity, a temperature of 1.
    temperature : Guo, Pleiss, Sun and Weinberger 2017, section 4.2.
    platt : a common slope and an intercept for each class, on the smoothed targets of Platt 1999, section 2.2.
    vector : a slope and an intercept for each class; Guo et al. 2017, section 4.2, here on ln p.
    dirichlet : Kull et al. 2019, section 3, with their penalty on off-diagonal weights and intercepts ("ODIR") as
        normal priors of standard deviation 0.1 and 1, so that its influence decreases with the number of cases. In
        their notation, for a mean log-loss, lambda = K (K - 1) / (2 n 0.1^2) and mu = K / (2 n).
    beta : Kull, Silva Filho and Flach 2017, equation 4.
    isotonic : Zadrozny and Elkan 2002. With n cases probabilities are limited to [1 / (n + 2), 1 - 1 / (n + 2)], so
        that no log-loss is infinite.

    Slopes (for Dirichlet, the diagonal) are limited to 0.01 to 20, as are the inverses of temperatures: no calibrator
    of two classes reverses the ranking of cases, and separated classes have finite parameters.

    Parameters
    ----------
    method : str
        One of `METHODS`, or "none".
    logits : (n, K)
        Logits of cases that the model was not trained on.
    labels : (n,) int or (n, K) float
        True class numbers; of a multilabel task 1 present, 0 absent, NaN not known.

    Raises
    ------
    Unsuitable
        If the method does not suit the task or these cases.
    ValueError
        If there is no such method, or a logit is not finite.
    """
    if method not in (NONE, *METHODS):
        raise ValueError(f"there is no calibration method {method!r}; choose one of {', '.join((NONE, *METHODS))}")
    if not np.isfinite(logits).all():
        raise ValueError(f"{int((~np.isfinite(logits)).any(axis=1).sum())} cases have logits that are not finite")
    if method == NONE:
        return identity_for(labels)
    if method == "temperature":
        return fit_temperature(logits, labels)
    _refuse_task(method, logits.shape[1], labels.ndim == 2)
    if labels.ndim == 2:
        return PerLabel(tuple(_fit_label(method, logits[:, c], labels[:, c], c) for c in range(labels.shape[1])))
    _refuse_cases(method, labels, logits.shape[1])
    return _fit_isotonic(logits, labels) if method == "isotonic" else _fit_log_linear(method, logits, labels)


def fit_temperature(logits: Floats, labels: Labels) -> Temperature:
    """Find the temperature of the lowest log-loss (Guo, Pleiss, Sun, Weinberger 2017, section 4.2).

    Parameters
    ----------
    logits : (n, K)
        Logits of cases that the model was not trained on.
    labels : (n,) int or (n, K) float
        True class numbers; of a multilabel task 1 present, 0 absent, NaN not known: one temperature is then fitted to
        all known pairs of case and label.

    Returns
    -------
    Temperature
        Between 0.05 and 100; a limit is reached if the classes are separated, or if the logits are uninformative.
    """

    def loss(log_temperature: float) -> float:
        return _mean_loss(logits / np.exp(log_temperature), labels)

    found = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-8})
    return Temperature(float(np.exp(found.x)), activation_for(labels))


def _fewest_cases(method: str, n_classes: int) -> int:
    if method in ("vector", "dirichlet"):
        return CASES_PER_PARAMETER * n_parameters_of(method, n_classes)
    return ENOUGH_FOR_ISOTONIC if method == "isotonic" else 0


def _refuse_task(method: str, n_classes: int, multilabel: bool) -> None:
    everything = suitable(n_classes, multilabel, 10**9)
    if method not in everything:
        task = "a multilabel task" if multilabel else f"{n_classes} classes"
        raise Unsuitable(f"{method} does not suit {task}; choose one of {', '.join(everything)}")


def _refuse_cases(method: str, labels: Ints, n_classes: int) -> None:
    needed = _fewest_cases(method, n_classes)
    if len(labels) < needed:
        raise Unsuitable(
            f"{method} needs {needed} cases to be fitted on, and there are {len(labels)}; choose temperature"
        )
    absent = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
    if len(absent):
        raise Unsuitable(f"{method} cannot be fitted without a case of class {absent[0]}; choose temperature")


def _fit_label(method: str, logits: Floats, column: Floats, number: int) -> Calibrator:
    """Fit the calibrator of one label on its known cases: class 1 is present, class 0 absent."""
    known = np.isfinite(column)
    try:
        return fit(method, beside_zero(logits[known]), column[known].astype(np.int64))
    except Unsuitable as error:
        raise Unsuitable(f"label {number}: {error}") from error


def _fit_isotonic(logits: Floats, labels: Ints) -> Isotonic:
    edge = 1 / (len(labels) + 2)
    found = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(logits[:, 1] - logits[:, 0], labels)
    return Isotonic(nested(found.X_thresholds_), nested(found.y_thresholds_))


def _fit_log_linear(method: str, logits: Floats, labels: Ints) -> LogLinear:
    known, k = log_softmax(logits, axis=1), logits.shape[1]
    targets = _platt_targets(labels, k) if method == "platt" else np.eye(k)[labels]
    slopes = {"platt": np.ones(1), "dirichlet": np.eye(k).ravel()}.get(method, np.ones(k))
    start = np.concatenate([slopes, np.zeros(k)])
    penalties = np.zeros(len(start))
    if method == "dirichlet":
        penalties[:-k] = (1 - slopes) / SPREAD_OFF_DIAGONAL**2
        penalties[-k:] = 1 / SPREAD_OF_INTERCEPTS**2
    low, high = 1 / LIMITS[1], 1 / LIMITS[0]
    bounds = [(low, high) if value else (None, None) for value in start]
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(
        _loss_and_gradient, start, (known, targets, penalties), "L-BFGS-B", jac=True, bounds=bounds, options=options
    ).x
    weights, intercepts = found[:-k], found[-k:] - found[-k]
    shaped = weights.reshape(k, k) if method == "dirichlet" else weights
    return LogLinear(nested(shaped), nested(intercepts), method)


def _loss_and_gradient(free: Floats, known: Floats, targets: Floats, penalties: Floats) -> tuple[float, Floats]:
    """Compute the mean cross-entropy of softmax(W ln p + b) plus penalties, and its gradient."""
    n, k = known.shape
    weights, intercepts = free[:-k], free[-k:]
    matrix = weights.reshape(k, k) if len(weights) == k * k else np.diag(np.broadcast_to(weights, k))
    logarithms = log_softmax(known @ matrix.T + intercepts, axis=1)
    residuals = np.exp(logarithms) - targets
    of_matrix = residuals.T @ known
    of_slopes = of_matrix.ravel() if len(weights) == k * k else np.diag(of_matrix)
    of_weights = of_slopes if len(weights) > 1 else of_slopes.sum(keepdims=True)
    loss = -(targets * logarithms).sum() + (penalties * free**2).sum() / 2
    return loss / n, (np.concatenate([of_weights, residuals.sum(axis=0)]) + penalties * free) / n


def _platt_targets(labels: Ints, n_classes: int) -> Floats:
    """Smooth targets: (m + 1) / (m + 2) for the true class of m cases, the rest shared (Platt 1999, section 2.2)."""
    own = 1 - 1 / (np.bincount(labels, minlength=n_classes)[labels] + 2)
    others = np.repeat(((1 - own) / (n_classes - 1))[:, None], n_classes, axis=1)
    others[np.arange(len(labels)), labels] = own
    return others


def _mean_loss(logits: Floats, labels: Labels) -> float:
    """Compute the log-loss in nats per case, or per known pair of case and label."""
    if labels.ndim == 1:
        return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
    known = np.isfinite(labels)
    return float((np.logaddexp(0, logits[known]) - labels[known] * logits[known]).mean())
