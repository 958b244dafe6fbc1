"""Late fusion of the output of a model without classes with columns: ridge regression of numbers, Cox's model of times.

The penalty is that of the fusion of classes (`metrics.fusion.C`), for standardised numbers; each patient has the weight
of one case. Nothing is tuned.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.columns import InputColumn
from pipeline.metrics.fusion import C, Design, Fusion, design_of
from pipeline.metrics.survival.cox import fit_cox

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]


PARTS = 5  # of the patients, for values that do not come from their own fit


M = TypeVar("M")


def values_of(fusion: Fusion, cases: pd.DataFrame) -> Floats:
    """Predict the number or log hazard (n,) of cases with the output of the network and the columns."""
    return np.asarray(fusion.fused(cases)["logit_0"], dtype=np.float64)


def crossed(cases: pd.DataFrame, fit: Callable[[pd.DataFrame], Fusion]) -> Floats:
    """Predict each case (n,) by a fusion that was fitted without the images of its patient and of others."""
    _, of_case = np.unique(cases["patient"].to_numpy(dtype=str), return_inverse=True)
    values = np.empty(len(cases))
    for part in range(min(PARTS, int(of_case.max()) + 1)):
        held = of_case % PARTS == part
        values[held] = values_of(fit(cases[~held]), cases[held])
    return values


def predicted_by_others(cases: pd.DataFrame, fit: Callable[[pd.DataFrame], Fusion]) -> Floats:
    """Predict each case (n,) by a fusion that was fitted on the other folds."""
    folds = cases["fold"].to_numpy(dtype=str)
    fusions = {str(fold): fit(cases[folds != fold]) for fold in np.unique(folds)}
    return by_fold(cases, fusions, values_of)


def by_fold(cases: pd.DataFrame, maps: Mapping[str, M], predict: Callable[[M, pd.DataFrame], Floats]) -> Floats:
    """Predict each case (n,) by the map of its fold."""
    folds, values = cases["fold"].to_numpy(dtype=str), np.empty(len(cases))
    for fold in np.unique(folds):
        values[folds == fold] = predict(maps[str(fold)], cases[folds == fold])
    return values


def of_each_patient(
    cases: pd.DataFrame, values: Mapping[str, Floats]
) -> tuple[pd.DataFrame, list[NDArray[np.int64]], dict[str, Floats]]:
    """Average values (n,) over the images of each patient.

    Returns
    -------
    cases : pandas.DataFrame
        The first image of each patient without its name, and the number of `images`.
    rows : list of (images,)
        The images of each patient.
    means : dict
    """
    rows = list(cases.reset_index(drop=True).groupby("patient", sort=True).indices.values())
    first = np.array([some[0] for some in rows])
    counted = cases.iloc[first].assign(images=[len(some) for some in rows]).drop(columns="case")
    means = {name: np.array([one[some].mean() for some in rows]) for name, one in values.items()}
    return counted.reset_index(drop=True), rows, means


def fit_number_fusion(cases: pd.DataFrame, true: Floats, columns: Sequence[InputColumn], with_image: bool) -> Fusion:
    """Fit a ridge regression of true numbers (n,); the penalty holds for numbers in standard deviations.

    Parameters
    ----------
    cases : pandas.DataFrame
        With `logit_0`, `patient`, and `column_<name>` for each column; n rows.
    true : (n,)
    columns : sequence of InputColumn
    with_image : bool
        False for a prediction from the columns alone.
    """
    design, weights = design_of(cases, columns, "identity", with_image), weights_of(cases)
    values, scale = standardised(design)
    share = weights / weights.sum()
    middle, mean = float(share @ true), share @ values
    centred = values - mean
    penalised = centred.T @ (weights[:, None] * centred) + np.eye(values.shape[1]) / C
    slopes = np.linalg.solve(penalised, centred.T @ (weights * (true - middle)))
    return as_fusion(design, slopes / scale, middle - float(slopes @ mean))


def fit_hazard_fusion(
    cases: pd.DataFrame, times: Floats, events: Marks, columns: Sequence[InputColumn], with_image: bool
) -> Fusion:
    """Fit a ridge-penalised Cox model; log hazards have the mean 0 over patients.

    Parameters
    ----------
    cases, columns, with_image
        As in `fit_number_fusion`.
    times, events : (n,)
    """
    design, weights = design_of(cases, columns, "identity", with_image), weights_of(cases)
    values, scale = standardised(design)
    slopes = fit_cox(values, times, events, 1 / C, weights=weights)
    return as_fusion(design, slopes / scale, -float(slopes @ (weights @ values) / weights.sum()))


def weights_of(cases: pd.DataFrame) -> Floats:
    """Weight each image (n,) so that those of a patient count as one case."""
    return np.asarray(1 / cases.groupby("patient")["patient"].transform("size"), dtype=np.float64)


def standardised(design: Design) -> tuple[Floats, Floats]:
    """Divide image and numeric features (n, p) by their standard deviations; also return these (p,)."""
    values = np.hstack([design.image, design.features])
    scaled = np.concatenate([np.ones(design.image.shape[1], dtype=bool), design.on_a_scale])
    spread = values.std(axis=0)
    scale = np.where(scaled & (spread > 0), spread, 1.0)
    return values / scale, scale


def as_fusion(design: Design, slopes: Floats, intercept: float) -> Fusion:
    """Write slopes (p,) of image and features as a fusion."""
    width = design.image.shape[1]
    return Fusion(
        design.fitted,
        (intercept,),
        (tuple(slopes[:width].tolist()),),
        (tuple(slopes[width:].tolist()),),
        activation="identity",
    )
