"""Calibrators, which turn logits into probabilities and are written and read as JSON.

Logits are defined up to a constant per case, so every calibrator uses only ln p = log softmax(logits). Temperature
and Platt scaling use one slope for all classes, vector scaling one per class, Dirichlet calibration a full matrix: each
is a special case of the next (Kull et al. 2019). For two classes vector scaling of ln p is beta calibration. Each label
of a multilabel task is calibrated separately, as two classes with the logits 0 and z.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

Floats = NDArray[np.float64]
Labels = NDArray[Any]  # (n,) numbers of classes, or (n, C) with NaN for what is not known
Activation = Literal["softmax", "sigmoid", "identity"]

METHODS = ("temperature", "platt", "vector", "dirichlet", "beta", "isotonic")


class Calibrator(Protocol):
    """Interface of the calibrators: a function from logits to probabilities.

    Attributes
    ----------
    method : str
        One of `METHODS`, or "linear" for a number.
    activation : {"softmax", "sigmoid", "identity"}
        Softmax for exclusive classes, sigmoid for the labels of a multilabel task, identity for a number.
    n_parameters : int
        Number of fitted parameters; of isotonic calibration the number of levels.
    """

    @property
    def method(self) -> str: ...  # noqa: D102

    @property
    def activation(self) -> Activation: ...  # noqa: D102

    @property
    def n_parameters(self) -> int: ...  # noqa: D102

    def apply(self, logits: Floats) -> Floats:
        """Turn (n, K) logits into (n, K) probabilities; rows sum to one unless the activation is sigmoid."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, from which `calibrator_from` rebuilds the calibrator."""
        ...

    def __call__(self, logits: Any) -> Floats:
        """Turn the logits of one or more cases, (..., K), array or tensor, into probabilities of the same shape.

        For use as `monai.transforms.Activationsd(other=...)`, which converts the result to a tensor.
        """
        known = np.asarray(logits.detach().cpu() if hasattr(logits, "detach") else logits, dtype=np.float64)
        return self.apply(known.reshape(-1, known.shape[-1])).reshape(known.shape)


@dataclass(frozen=True)
class Temperature(Calibrator):
    """Temperature scaling: p = softmax(logits / T), or sigmoid(logits / T).

    T above 1 reduces confidence; the ranking of the classes does not change.
    """

    value: float
    activation: Activation = "softmax"
    method: ClassVar[str] = "temperature"
    n_parameters: ClassVar[int] = 1

    def apply(self, logits: Floats) -> Floats:
        """Turn (n, K) logits into (n, K) probabilities; rows sum to one unless the activation is sigmoid."""
        scaled = logits / self.value
        return np.asarray(expit(scaled) if self.activation == "sigmoid" else softmax(scaled, axis=1))

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, from which `calibrator_from` rebuilds the calibrator."""
        return {"method": self.method, "activation": self.activation, "temperature": self.value}


@dataclass(frozen=True)
class LogLinear(Calibrator):
    """Log-linear calibration of exclusive classes: q = softmax(weights ln p + intercepts).

    Attributes
    ----------
    weights : tuple
        One slope (platt), one for each of K classes (vector; beta has K = 2), or K rows of K (dirichlet).
    intercepts : tuple
        K numbers, the first of which is 0. In Kull's notation beta has a = weights[1], b = weights[0],
        c = intercepts[1].
    """

    weights: tuple[Any, ...]
    intercepts: tuple[float, ...]
    method: str = "platt"
    activation: ClassVar[Activation] = "softmax"

    @property
    def n_parameters(self) -> int:
        """Count the identifiable parameters: a constant added to a column or to all intercepts changes nothing."""
        return n_parameters_of(self.method, len(self.intercepts))

    def apply(self, logits: Floats) -> Floats:
        """Turn (n, K) logits into (n, K) probabilities; rows sum to one."""
        known, weights = log_softmax(logits, axis=1), np.array(self.weights)
        # The last digits of a BLAS matrix product would depend on the number of cases.
        scaled = (known[:, None, :] * weights).sum(axis=2) if weights.ndim == 2 else known * weights
        return np.asarray(softmax(scaled + np.array(self.intercepts), axis=1))

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, from which `calibrator_from` rebuilds the calibrator."""
        numbers = {"weights": np.array(self.weights).tolist(), "intercepts": list(self.intercepts)}
        return {"method": self.method, "activation": self.activation, **numbers}


@dataclass(frozen=True)
class Isotonic(Calibrator):
    """Isotonic calibration: piecewise linear from the margin z1 - z0 to the probability of the last of two classes.

    Constant beyond the outer knots.

    Attributes
    ----------
    margins, probabilities : tuple of float
        The knots, ascending.
    """

    margins: tuple[float, ...]
    probabilities: tuple[float, ...]
    method: ClassVar[str] = "isotonic"
    activation: ClassVar[Activation] = "softmax"

    @property
    def n_parameters(self) -> int:
        """Count the levels."""
        return len(set(self.probabilities))

    def apply(self, logits: Floats) -> Floats:
        """Turn (n, 2) logits into (n, 2) probabilities."""
        first, last = logits.T
        found = np.interp(last - first, self.margins, self.probabilities)
        return np.stack([1 - found, found], axis=1)

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, from which `calibrator_from` rebuilds the calibrator."""
        knots = {"margins": list(self.margins), "probabilities": list(self.probabilities)}
        return {"method": self.method, "activation": self.activation, **knots}


@dataclass(frozen=True)
class PerLabel(Calibrator):
    """One calibrator of two classes for each label of a multilabel task."""

    labels: tuple[Calibrator, ...]
    activation: ClassVar[Activation] = "sigmoid"

    @property
    def method(self) -> str:
        """Give the method, which all labels share."""
        return self.labels[0].method

    @property
    def n_parameters(self) -> int:
        """Sum the parameters of all labels."""
        return sum(one.n_parameters for one in self.labels)

    def apply(self, logits: Floats) -> Floats:
        """Turn (n, C) logits into (n, C) independent probabilities."""
        columns = zip(self.labels, logits.T, strict=True)
        return np.stack([one.apply(beside_zero(column))[:, 1] for one, column in columns], axis=1)

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, from which `calibrator_from` rebuilds the calibrator."""
        labels = [one.as_json() for one in self.labels]
        return {"method": self.method, "activation": self.activation, "labels": labels}


@dataclass(frozen=True)
class Linear(Calibrator):
    """Linear recalibration of a regression: value = intercept + slope * output, in the unit of the number."""

    slope: float = 1.0
    intercept: float = 0.0
    method: ClassVar[str] = "linear"
    activation: ClassVar[Activation] = "identity"
    n_parameters: ClassVar[int] = 2

    def apply(self, logits: Floats) -> Floats:
        """Turn outputs of the network (n, 1) into values (n, 1)."""
        return np.asarray(self.intercept + self.slope * logits)

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, from which `calibrator_from` rebuilds the calibrator."""
        numbers = {"slope": self.slope, "intercept": self.intercept}
        return {"method": self.method, "activation": self.activation, **numbers}


def activation_for(labels: Labels) -> Activation:
    """Select sigmoid for multilabel labels (n, C), softmax for class numbers (n,)."""
    return "sigmoid" if labels.ndim == 2 else "softmax"


def identity_for(labels: Labels) -> Temperature:
    """Build the identity: a temperature of 1."""
    return Temperature(1.0, activation_for(labels))


def calibrator_from(values: Mapping[str, Any]) -> Calibrator:
    """Rebuild a calibrator from the values of `as_json`; the default method is temperature. Other keys are ignored.

    With the activation identity it is the recalibration of a number.

    Raises
    ------
    ValueError
        If a value is missing, not finite, or inconsistent with the others; the message names it.
    """
    method, activation = values.get("method", "temperature"), values.get("activation", "softmax")
    if (method, activation) == (Linear.method, "identity"):
        return Linear(*(float(_numbers(values, name, ())) for name in ("slope", "intercept")))
    if method not in METHODS or activation not in ("softmax", "sigmoid"):
        raise ValueError(f"calibrator: there is no method {method!r} with the activation {activation!r}; fit it again")
    if method == "temperature":
        value = float(_numbers(values, "temperature", ()))
        if value <= 0:
            raise ValueError(f"calibrator: temperature is {value}, but must be above 0")
        return Temperature(value, activation)
    if activation == "sigmoid":
        return _labels_from(values, method)
    return _isotonic_from(values) if method == "isotonic" else _log_linear_from(values, method)


def digest_of(calibrator: Calibrator) -> str:
    """Compute the SHA-256 of the calibrator's JSON with sorted keys; predictions refer to it."""
    return hashlib.sha256(json.dumps(calibrator.as_json(), sort_keys=True).encode()).hexdigest()


def beside_zero(column: Floats) -> Floats:
    """Convert the logits (n,) of one label to logits of two classes (n, 2), the first of which are 0."""
    return np.stack([np.zeros_like(column), column], axis=1)


def n_parameters_of(method: str, n_classes: int) -> int:
    """Count the identifiable parameters of a log-linear calibrator."""
    slopes = {"platt": 1, "vector": n_classes, "beta": 2, "dirichlet": n_classes * (n_classes - 1)}
    return slopes[method] + n_classes - 1


def nested(numbers: Floats) -> tuple[Any, ...]:
    """Convert an array of one or two axes to tuples of float, so that calibrators can be compared."""
    return tuple(tuple(row) if isinstance(row, list) else row for row in numbers.tolist())


def _labels_from(values: Mapping[str, Any], method: str) -> PerLabel:
    written = values.get("labels")
    if not isinstance(written, list) or not written:
        raise ValueError(f"calibrator: {method} with sigmoid needs labels, with a calibrator for each")
    labels = tuple(calibrator_from(one) for one in written)
    if any((one.method, one.activation) != (method, "softmax") for one in labels):
        raise ValueError(f"calibrator: labels has a calibrator that is not {method} of two classes")
    return PerLabel(labels)


def _isotonic_from(values: Mapping[str, Any]) -> Isotonic:
    margins = _numbers(values, "margins", (None,))
    probabilities = _numbers(values, "probabilities", margins.shape)
    if len(margins) == 0 or (np.diff(margins) <= 0).any():
        raise ValueError("calibrator: margins must rise")
    if (np.diff(probabilities) < 0).any() or probabilities[0] < 0 or probabilities[-1] > 1:
        raise ValueError("calibrator: probabilities must rise from 0 to 1")
    return Isotonic(nested(margins), nested(probabilities))


def _log_linear_from(values: Mapping[str, Any], method: str) -> LogLinear:
    intercepts = _numbers(values, "intercepts", (2,) if method == "beta" else (None,))
    k = len(intercepts)
    weights = _numbers(values, "weights", {"platt": (1,), "dirichlet": (k, k)}.get(method, (k,)))
    return LogLinear(nested(weights), nested(intercepts), method)


def _numbers(values: Mapping[str, Any], name: str, shape: tuple[int | None, ...]) -> Floats:
    """Read finite numbers of a given shape, in which None allows any length."""
    try:
        found = np.array(values[name], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"calibrator: {name} is missing, or not made of numbers") from error
    fits = found.ndim == len(shape) and all(b in (None, a) for a, b in zip(found.shape, shape, strict=True))
    if not fits or not np.isfinite(found).all():
        raise ValueError(f"calibrator: {name} has the wrong shape {found.shape}, or a number that is not finite")
    return found
