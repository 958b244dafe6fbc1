"""Describe features: their first two principal components, and the distances between sites."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from pipeline.metrics.bootstrap import Bootstrap, estimate

Floats = NDArray[np.float64]
Names = NDArray[np.str_]
Marks = NDArray[np.bool_]
Metric = Callable[[Floats], Floats]  # weights (R, n) to values (R,)

FOLDS = 5
DISTANCE = ["site", "measure", "arm", "n", "patients", "value", "lower", "upper"]
CHANGE = "change"  # in the column `arm`, for the difference of two arms


def principal_plane(features: Floats) -> tuple[Floats, Floats]:
    """Project standardised features on their first two principal components.

    The largest loading in absolute value of each component is made positive, which fixes the signs.

    Parameters
    ----------
    features : (n, w)
        At least two cases; constant features have no effect.

    Returns
    -------
    places : (n, 2)
    explained : (2,)
        Shares of the variance, in [0, 1].
    """
    standardised = StandardScaler().fit_transform(features)
    found = PCA(2, svd_solver="full").fit(standardised)
    largest = np.abs(found.components_).argmax(axis=1)
    signs = np.sign(found.components_[[0, 1], largest])
    return found.transform(standardised) * signs, np.asarray(found.explained_variance_ratio_)


def domain_distances(
    features: Mapping[str, Floats], patients: Names, sites: Names, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Measure the distance of each site from all others, by two measures that use no labels.

    mmd : squared maximum mean discrepancy with a linear kernel, per standardised feature: the mean squared difference
        of the features' means in standard deviations. Unbiased, because it averages over pairs of different patients
        (Gretton et al. 2012, "A kernel two-sample test", equation 3); 0 on average without a difference, below 4.
    a_distance : proxy A-distance 2 (1 - 2 e), where e is the error of a linear classifier that separates held-out
        patients of the site from all others, with equal weight of both sides (Ben-David, Blitzer, Crammer, Pereira
        2007, "Analysis of representations for domain adaptation", section 4); 0 is chance, 2 perfect separation.

    Parameters
    ----------
    features : mapping
        From arm to its features (n, w) of the same cases. With two arms, the second minus the first is a further row.
    patients, sites : (n,)
    bootstrap : Bootstrap
        The intervals draw patients and leave the classifiers as they are. The seed also splits the patients into folds.

    Returns
    -------
    pandas.DataFrame
        Columns `DISTANCE`; no row for a site if it, or the rest, has fewer than five patients.
    """
    weights = bootstrap.weights(patients)
    standardised = {arm: StandardScaler().fit_transform(found) for arm, found in features.items()}
    rows = []
    for site in sorted(set(sites.tolist())):
        here = sites == site
        if min(len(set(patients[here])), len(set(patients[~here]))) < FOLDS:
            continue
        known = {"site": site, "n": int(here.sum()), "patients": len(set(patients[here]))}
        for measure, metric_of in MEASURES.items():
            metrics = {arm: metric_of(found, here, patients, bootstrap.seed) for arm, found in standardised.items()}
            for arm, metric in (metrics | _changes(metrics)).items():
                found = estimate(metric, weights, bootstrap.confidence).as_json()
                rows.append(known | {"measure": measure, "arm": arm} | found)
    return pd.DataFrame(rows, columns=DISTANCE)


def _changes(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Subtract the first of two metrics from the second, on the same draws; return nothing for a single metric."""
    if len(metrics) != 2:
        return {}
    before, after = metrics.values()
    return {CHANGE: lambda weights: after(weights) - before(weights)}


def _mmd(features: Floats, here: Marks, patients: Names, seed: int) -> Metric:
    kernel, others = features @ features.T / features.shape[1], patients[:, None] != patients

    def mean(weights: Floats, rows: Marks, columns: Marks) -> Floats:
        part = np.ix_(rows, columns)
        left, right = weights[:, rows], weights[:, columns]
        with np.errstate(invalid="ignore"):  # where a side was not drawn
            total = ((left @ (kernel * others)[part]) * right).sum(axis=1)
            return np.asarray(total / ((left @ others[part]) * right).sum(axis=1))

    return lambda weights: mean(weights, here, here) + mean(weights, ~here, ~here) - 2 * mean(weights, here, ~here)


def _a_distance(features: Floats, here: Marks, patients: Names, seed: int) -> Metric:
    rotated = PCA(svd_solver="full").fit_transform(features)  # the same distances in at most n dimensions
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    wrong = cross_val_predict(model, rotated, here, groups=patients, cv=folds) != here

    def distance(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            errors = [weights[:, side] @ wrong[side] / weights[:, side].sum(axis=1) for side in (here, ~here)]
        return np.asarray(2 - 2 * (errors[0] + errors[1]))

    return distance


MEASURES = {"mmd": _mmd, "a_distance": _a_distance}
