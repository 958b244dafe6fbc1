"""Describe features: their first two principal components, and the distances between sites."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from pipeline.metrics.bootstrap import Bootstrap, estimate_of, in_blocks

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
    rotated = {arm: PCA(svd_solver="full").fit_transform(found) for arm, found in standardised.items()}
    rows = []
    for site in sorted(set(sites.tolist())):
        here = sites == site
        if min(len(set(patients[here])), len(set(patients[~here]))) < FOLDS:
            continue
        known = {"site": site, "n": int(here.sum()), "patients": len(set(patients[here]))}
        metrics = {
            "mmd": {arm: _mmd(found, here, patients) for arm, found in standardised.items()},
            "a_distance": {arm: _a_distance(found, here, patients, bootstrap.seed) for arm, found in rotated.items()},
        }
        for measure, of_arms in metrics.items():
            values = {arm: in_blocks(metric, weights) for arm, metric in of_arms.items()}
            if len(values) == 2:
                before, after = values.values()
                values[CHANGE] = after - before
            for arm, found in values.items():
                interval = estimate_of(found, bootstrap.confidence).as_json()
                rows.append(known | {"measure": measure, "arm": arm} | interval)
    return pd.DataFrame(rows, columns=DISTANCE)


class PatientSums(NamedTuple):
    """The features of each patient on one side, summed over cases: `sums` (P, w), of `counts` (P,) cases.

    `rows` (P,) holds one case of each, which has the weight of all of them; `names` (P,) is sorted.
    """

    names: Names
    rows: NDArray[np.int64]
    sums: Floats
    counts: Floats


def _mmd(features: Floats, here: Marks, patients: Names) -> Metric:
    own, rest = (_patient_sums(features, patients, np.flatnonzero(side)) for side in (here, ~here))
    parts = [_mean_kernel(*sides) for sides in ((own, own), (rest, rest), (own, rest))]

    def discrepancy(weights: Floats) -> Floats:
        within, without, between = (part(weights) for part in parts)
        return np.asarray((within + without - 2 * between) / features.shape[1])

    return discrepancy


def _patient_sums(features: Floats, patients: Names, side: NDArray[np.int64]) -> PatientSums:
    names, first, patient = np.unique(patients[side], return_index=True, return_inverse=True)
    members = csr_array((np.ones(len(side)), (patient, side)), shape=(len(names), len(features)))
    return PatientSums(names, side[first], members @ features, np.bincount(patient).astype(np.float64))


def _mean_kernel(left: PatientSums, right: PatientSums) -> Metric:
    """Average the linear kernel over pairs of cases of different patients, one from each side.

    With weights u and v of the patients' sums, the pairs add up to (u S)(v T) - sum_p u_p v_p s_p t_p over the patients
    p on both sides: all pairs less those within a patient. No matrix of all pairs of cases is needed.
    """
    _, own, others = np.intersect1d(left.names, right.names, assume_unique=True, return_indices=True)
    products = np.einsum("pw,pw->p", left.sums[own], right.sums[others])
    pairs = left.counts[own] * right.counts[others]

    def mean(weights: Floats) -> Floats:
        u, v, both = weights[:, left.rows], weights[:, right.rows], np.square(weights[:, left.rows[own]])
        total = ((u @ left.sums) * (v @ right.sums)).sum(axis=1) - both @ products
        drawn = (u @ left.counts) * (v @ right.counts) - both @ pairs  # none where a side is not, or one patient only
        return np.asarray(np.divide(total, drawn, out=np.full(len(total), np.nan), where=drawn > 0))

    return mean


def _a_distance(rotated: Floats, here: Marks, patients: Names, seed: int) -> Metric:
    """Classify the sites by features that a rotation brought to at most n dimensions, with the same distances."""
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    wrong = cross_val_predict(model, rotated, here, groups=patients, cv=folds) != here

    def distance(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            errors = [weights[:, side] @ wrong[side] / weights[:, side].sum(axis=1) for side in (here, ~here)]
        return np.asarray(2 - 2 * (errors[0] + errors[1]))

    return distance
