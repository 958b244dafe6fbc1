"""Ordinal logistic regression with proportional odds, P(y <= k) = sigmoid(b_k - w'x).

McCullagh 1980, "Regression models for ordinal data", equation 2.2; the penalty is scikit-learn's.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Floats = NDArray[np.float64]
CLOSEST = 1e-6  # least distance of two thresholds


def ordinal_logits(scores: Floats, thresholds: Floats) -> Floats:
    """Compute log-probabilities (n, C) of the grades from scores w'x (n, 1) and thresholds b (C - 1,)."""
    places = thresholds - scores
    # ln(sigmoid(b) - sigmoid(a)) = ln sigmoid(b) + ln sigmoid(-a) + ln(1 - e^(a - b)), which never cancels.
    between = log_expit(places[:, 1:]) + log_expit(-places[:, :-1]) + np.log(-np.expm1(-np.diff(thresholds)))
    return np.hstack([log_expit(places[:, :1]), between, log_expit(-places[:, -1:])])


def fit_ordinal(features: Floats, targets: NDArray[np.floating], c: float, balanced: bool) -> tuple[Floats, Floats]:
    """Minimise C sum_i w_i ln(1 / p_i) + |w|^2 / 2 over weights and thresholds, by L-BFGS with the exact gradient.

    Parameters
    ----------
    features : (n, width)
        Standardised.
    targets : (n, C)
        One-hot, in the order of the grades; every grade is present.
    c : float
        C, as scikit-learn's `LogisticRegression` takes it.
    balanced : bool
        Whether every grade has the same total weight.

    Returns
    -------
    weight : (1, width)
    thresholds : (C - 1,)
        Ascending.
    """
    grades, n_grades = targets.argmax(axis=1), targets.shape[1]
    counts = np.bincount(grades, minlength=n_grades)
    weights = (len(grades) / (n_grades * np.maximum(counts, 1)))[grades] if balanced else np.ones(len(grades))
    below = np.cumsum(counts[:-1] + 0.5) / (counts + 0.5).sum()
    start = _gaps_of(np.log(below / (1 - below)))

    def objective(values: Floats) -> tuple[float, Floats]:
        slope, thresholds = values[: features.shape[1]], _thresholds_of(values[features.shape[1] :])
        loss, of_scores, of_thresholds = _loss(features @ slope, thresholds, grades, weights)
        gradient = np.concatenate([c * features.T @ of_scores + slope, c * _through_gaps(of_thresholds)])
        gradient[features.shape[1] + 1 :] *= np.exp(values[features.shape[1] + 1 :])
        return float(c * loss + 0.5 * slope @ slope), gradient

    begin = np.concatenate([np.zeros(features.shape[1]), start])
    found = minimize(objective, begin, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    return found[None, : features.shape[1]], _thresholds_of(found[features.shape[1] :])


def _loss(
    scores: Floats, thresholds: Floats, grades: NDArray[np.int64], weights: Floats
) -> tuple[float, Floats, Floats]:
    """Compute the weighted log-loss and its gradients with respect to scores (n,) and thresholds (C - 1,)."""
    logits = ordinal_logits(scores[:, None], thresholds)
    rows = np.arange(len(grades))
    places = expit(thresholds - scores[:, None])
    slopes = places * (1 - places)  # of sigmoid(b_k - s)
    p = np.exp(logits[rows, grades])
    upper = np.where(grades < len(thresholds), slopes[rows, np.minimum(grades, len(thresholds) - 1)], 0.0)
    lower = np.where(grades > 0, slopes[rows, np.maximum(grades - 1, 0)], 0.0)
    share = weights / np.maximum(p, np.finfo(float).tiny)
    by_upper = np.bincount(grades, -share * upper, minlength=len(thresholds) + 1)[:-1]
    by_lower = np.bincount(grades, share * lower, minlength=len(thresholds) + 1)[1:]
    return (
        float(-(weights * logits[rows, grades]).sum()),
        share * (upper - lower),
        (by_upper + by_lower).astype(np.float64),
    )


def _thresholds_of(values: Floats) -> Floats:
    """Compute ascending thresholds (C - 1,) from the first one and the logarithms of the gaps."""
    return np.cumsum(np.concatenate([values[:1], np.exp(values[1:]) + CLOSEST]))


def _gaps_of(thresholds: Floats) -> Floats:
    return np.concatenate([thresholds[:1], np.log(np.maximum(np.diff(thresholds) - CLOSEST, CLOSEST))])


def _through_gaps(of_thresholds: Floats) -> Floats:
    """Sum the gradient of each threshold over those above it, which move with it."""
    return np.cumsum(of_thresholds[::-1])[::-1]
