"""Late fusion: a ridge-penalised regression on what a model gives an image, and on columns.

It has few parameters and is fitted, as a calibrator is, on out-of-fold logits of the model; its probabilities need no
further calibrator. With exclusive classes and image log-odds z_j = logit_j - logit_0,

    ln(p_k / p_0) = intercept_k + sum_j image_weights_kj z_j + sum_f column_weights_kf x_f,

and with several labels the same for ln(p_k / (1 - p_k)), where label k has its own z_k alone. Of a number and of a log
hazard it is the same sum of intercept, weighted output and columns, fitted by `metrics.output_fusion`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from pipeline.metrics.calibrators.calibrator import Activation, Calibrator, Temperature, activation_for
from pipeline.metrics.columns import FittedColumn, InputColumn, fit_column
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.subgroups import COLUMN, as_text

Floats = NDArray[np.float64]

C = 1.0  # inverse regularisation strength as in scikit-learn, for standardised numbers; fixed, since nothing is tuned
LOGITS, IMAGE = r"^logit_\d+$", "image_"  # columns of a table of cases: after the fusion, and of the image alone


@dataclass(frozen=True)
class Fusion(Calibrator):
    """A fitted fusion; it stands where a calibrator does, and takes the logits that `fuse` gives.

    Attributes
    ----------
    columns : tuple of FittedColumn
    intercepts : tuple of float
        Of each class but the first, or of each label.
    image_weights, column_weights : tuple of tuples of float
        A row for each intercept. Without image weights the columns predict alone.
    activation : {"softmax", "sigmoid", "identity"}
        Identity for a number or a log hazard.
    """

    columns: tuple[FittedColumn, ...]
    intercepts: tuple[float, ...]
    image_weights: tuple[tuple[float, ...], ...]
    column_weights: tuple[tuple[float, ...], ...]
    activation: Activation = "softmax"
    method: ClassVar[str] = "fusion"

    @property
    def n_parameters(self) -> int:
        """Count the coefficients and intercepts that are not fixed at 0."""
        weights = np.hstack([np.array(self.image_weights), np.array(self.column_weights)])
        return int(np.count_nonzero(weights)) + len(self.intercepts)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [one.column.name for one in self.columns]

    def apply(self, logits: Floats) -> Floats:
        """Turn (n, K) fused logits into (n, K) probabilities, which sum to one if exclusive; a number stays."""
        return logits if self.activation == "identity" else Temperature(1.0, self.activation).apply(logits)

    def fuse(self, logits: Floats, texts: Mapping[str, Sequence[str]]) -> Floats:
        """Combine the logits (n, K) of the image with the texts (n,) of each column to fused logits (n, K)."""
        columns = np.hstack([one.encode(texts[one.column.name]) for one in self.columns])
        image = odds_of(logits, self.activation)
        # The last digits of a BLAS matrix product would depend on the number of cases.
        found = np.array(self.intercepts) + (columns[:, None, :] * np.array(self.column_weights)).sum(axis=2)
        if self.image_weights[0]:
            found = found + (image[:, None, :] * np.array(self.image_weights)).sum(axis=2)
        return np.hstack([np.zeros((len(found), 1)), found]) if self.activation == "softmax" else found

    def fused(self, cases: pd.DataFrame) -> pd.DataFrame:
        """Put the fused logits in place of those of the image, which are kept as `image_0`, ..."""
        logits = image_logits(cases)
        texts = {name: as_text(cases[COLUMN + name]).tolist() for name in self.names}
        kept = {f"{IMAGE}{number}": column for number, column in enumerate(logits.T)}
        fused = {f"logit_{number}": column for number, column in enumerate(self.fuse(logits, texts).T)}
        return cases.assign(**kept, **fused)

    def flaws_of(self, values: Mapping[str, Any], names: Sequence[str] | None = None) -> list[str]:
        """Say which values of a new case (of the named columns, or of all) cannot be used, and what to do."""
        asked = [one for one in self.columns if names is None or one.column.name in names]
        flaws = {one.column.name: one.flaw_of(values.get(one.column.name, "")) for one in asked}
        return [f"column '{name}': {flaw}" for name, flaw in flaws.items() if flaw]

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, from which `fusion_from` rebuilds the fusion."""
        return {
            "method": self.method,
            "activation": self.activation,
            "columns": [one.as_json() for one in self.columns],
            "features": [name for one in self.columns for name in one.features],
            "intercepts": list(self.intercepts),
            "image_weights": [list(row) for row in self.image_weights],
            "column_weights": [list(row) for row in self.column_weights],
        }


def fusion_from(values: Mapping[str, Any]) -> Fusion:
    """Rebuild a fusion from the values of `as_json`.

    Raises
    ------
    ValueError, KeyError, TypeError
        If a value is missing, not finite, or inconsistent with the others.
    """
    rows = {name: [[float(one) for one in row] for row in values[name]] for name in ("image_weights", "column_weights")}
    intercepts = [float(one) for one in values["intercepts"]]
    columns = tuple(FittedColumn.from_json(one) for one in values["columns"])
    features = [name for one in columns for name in one.features]
    widths = {"image_weights": (0, len(intercepts)), "column_weights": (len(features),)}
    for name, found in rows.items():
        if len(found) != len(intercepts) or any(len(row) not in widths[name] for row in found):
            raise ValueError(f"columns: {name} has the wrong shape")
    numbers = [*intercepts, *(one for found in rows.values() for row in found for one in row)]
    if not intercepts or not np.isfinite(numbers).all() or list(values["features"]) != features:
        raise ValueError("columns: a coefficient is missing, not finite, or of another feature")
    if values["activation"] not in get_args(Activation):
        raise ValueError(f"columns: there is no activation {values['activation']!r}")
    weights = {name: tuple(tuple(row) for row in found) for name, found in rows.items()}
    return Fusion(columns, tuple(intercepts), **weights, activation=values["activation"])


def image_logits(cases: pd.DataFrame) -> Floats:
    """Extract the logits (n, K) of the image from a table of cases, fused or not."""
    kept = cases.filter(regex=rf"^{IMAGE}\d+$")
    return np.asarray(cases.filter(regex=LOGITS) if kept.empty else kept, dtype=np.float64)


def odds_of(logits: Floats, activation: Activation) -> Floats:
    """Compute the log-odds of the image: of each class but the first to the first (n, K - 1), or of each label.

    The output of a model without classes stays as it is.
    """
    return logits[:, 1:] - logits[:, :1] if activation == "softmax" else logits


@dataclass(frozen=True)
class Design:
    """What a fusion is fitted on.

    Attributes
    ----------
    fitted : tuple of FittedColumn
    image : (n, j)
        Log-odds or output of the image; j is 0 without it.
    features : (n, f)
        Of the columns.
    on_a_scale : (f,)
        Features that are standardised, because they are numbers and no indicators.
    """

    fitted: tuple[FittedColumn, ...]
    image: Floats
    features: Floats
    on_a_scale: NDArray[np.bool_]


def design_of(cases: pd.DataFrame, columns: Sequence[InputColumn], activation: Activation, with_image: bool) -> Design:
    """Fit the columns of cases (n), and encode them."""
    texts = {one.name: as_text(cases[COLUMN + one.name]).tolist() for one in columns}
    fitted = tuple(fit_column(one, texts[one.name]) for one in columns)
    features = np.hstack([one.encode(texts[one.column.name]) for one in fitted])
    on_a_scale = np.array([mark for one in fitted for mark in one.on_a_scale])
    image = odds_of(image_logits(cases), activation) if with_image else np.zeros((len(cases), 0))
    return Design(fitted, image, features, on_a_scale)


def fit_fusion(cases: pd.DataFrame, labels: Labels, columns: Sequence[InputColumn], with_image: bool = True) -> Fusion:
    """Fit a fusion on cases (n) whose logits come from models that did not see them.

    Parameters
    ----------
    cases : pandas.DataFrame
        With the logits, and `column_<name>` for each column.
    labels : (n,) int or (n, K) float
        Class numbers; of a multilabel task 1, 0, and NaN for not known.
    columns : sequence of InputColumn
    with_image : bool
        False for a prediction from the columns alone.
    """
    activation = activation_for(labels)
    design = design_of(cases, columns, activation, with_image)
    image, features, on_a_scale = design.image, design.features, design.on_a_scale
    if activation == "softmax":
        n_classes = image_logits(cases).shape[1]
        scaled = np.concatenate([np.ones(image.shape[1], dtype=bool), on_a_scale])
        intercepts, weights = _multinomial(np.hstack([image, features]), labels, n_classes, scaled)
    else:
        rows = [_of_label(number, image, features, labels, scaled=on_a_scale) for number in range(labels.shape[1])]
        intercepts, weights = np.array([one for one, _ in rows]), np.stack([one for _, one in rows])
    of_image, of_columns = weights[:, : image.shape[1]], weights[:, image.shape[1] :]
    return Fusion(
        design.fitted, tuple(intercepts.tolist()), _nested(of_image), _nested(of_columns), activation=activation
    )


def _of_label(
    number: int, image: Floats, features: Floats, labels: Labels, *, scaled: NDArray[np.bool_]
) -> tuple[float, Floats]:
    """Fit one label on the cases of which it is known; (intercept, weights of all image log-odds and features)."""
    known, own = np.isfinite(labels[:, number]), image[:, [number]] if image.shape[1] else image
    values, of_values = np.hstack([own, features])[known], np.concatenate([np.ones(own.shape[1], dtype=bool), scaled])
    intercepts, weights = _multinomial(values, labels[known, number].astype(np.int64), 2, of_values)
    whole = np.zeros(image.shape[1] + features.shape[1])
    whole[image.shape[1] :] = weights[0, own.shape[1] :]
    if image.shape[1]:
        whole[number] = weights[0, 0]
    return float(intercepts[0]), whole


def _multinomial(
    values: Floats, labels: NDArray[np.int64], n_classes: int, scaled: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Fit classes on values (n, p), of which the `scaled` ones are standardised, relative to the first class.

    A class without a case gets the log-odds of half a case in n + 1. Returns intercepts (K - 1,) and weights
    (K - 1, p) for the values as they are.
    """
    present, counts = np.unique(labels, return_counts=True)
    intercepts, weights = np.full(n_classes, np.log(0.5 / (len(labels) + 1))), np.zeros((n_classes, values.shape[1]))
    if len(present) > 1:
        spread = values.std(axis=0)
        scale = np.where(scaled & (spread > 0), spread, 1.0)
        mean = np.where(scaled, values.mean(axis=0), 0.0)
        model = LogisticRegression(C=C, max_iter=1000, tol=1e-8).fit((values - mean) / scale, labels)
        slopes = model.coef_ / scale
        starts = model.intercept_ - slopes @ mean
        two = len(present) == 2
        weights[present] = np.vstack([np.zeros_like(slopes), slopes]) if two else slopes
        intercepts[present] = np.concatenate([[0.0], starts]) if two else starts
    else:
        intercepts[present] = np.log((counts + 0.5) / (len(labels) + 1))
    return intercepts[1:] - intercepts[0], weights[1:] - weights[0]


def _nested(rows: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in rows.tolist())
