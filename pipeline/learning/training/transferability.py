"""Score how well frozen features suit labels before training: LogME and the H-score; higher is better for both."""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage

Array = NDArray[np.floating]

STEPS = 1000  # at most; the fixed point mostly takes fewer than ten
TINY = 1e-10
PRECISIONS = (1e-12, 1e12)  # bounds; alpha diverges if features carry no information


def log_me(features: Array, labels: NDArray[np.integer]) -> float:
    """Compute the log maximum evidence, in nats per case, of a Bayesian linear model from features to labels.

    For each class y (n,) is 1 on its cases and 0 elsewhere, w ~ N(0, I / alpha), y ~ N(F w, I / beta), and
    L = n/2 ln beta + d/2 ln alpha - n/2 ln 2 pi - beta/2 ||F m - y||^2 - alpha/2 m'm - 1/2 ln |A|,
    A = alpha I + beta F'F,  m = beta A^-1 F'y
    is maximised over alpha and beta by their fixed point; the score is the mean of L / n over the classes (You, Liu,
    Wang, Long 2021, "LogME: practical assessment of pre-trained models for transfer learning", equation 2 and
    algorithm 1). There is no intercept: centre the features of all candidates, or of none.

    Parameters
    ----------
    features : (n, d)
        n < d is allowed; the cost is one singular value decomposition.
    labels : (n,) int
    """
    left, singular, _ = np.linalg.svd(np.asarray(features, dtype=np.float64), full_matrices=False)
    squares = np.where(singular > TINY * singular.max(initial=0), singular, 0) ** 2
    scores = []
    for label in np.unique(labels):
        y = (labels == label).astype(np.float64)
        scores.append(_evidence(squares, left.T @ y, y) / len(y))
    return float(np.mean(scores))


def h_score(features: Array, labels: NDArray[np.integer], shrinkage: float | None = None) -> float:
    """Compute how much of the features' variance, each direction scaled to one, lies between the classes.

    H = tr(cov(F)^-1 cov(E[F | y])) (Bao et al. 2019, "An information-theoretic approach to transferability in task
    transfer learning", definition 2), in [0, min(d, classes - 1)], both covariances with 1 / n. With fewer cases than
    features it carries no information, as classes are always separable; hence the shrunk form of Ibrahim, Ponomareva,
    Mazumder 2022, "Newer is not always better: rethinking transferability metrics", section 3:
    H_s = tr(((1 - s) cov(F) + s v I)^-1 (1 - s) cov(E[F | y])), v the mean variance of a feature.

    Parameters
    ----------
    features : (n, d)
    labels : (n,) int
    shrinkage : float, optional
        s in [0, 1]; None estimates it (Ledoit and Wolf 2004); 0 is the plain score, with the pseudo-inverse if
        n <= d.
    """
    centred = np.asarray(features, dtype=np.float64) - np.mean(features, axis=0, dtype=np.float64)
    s = float(ledoit_wolf_shrinkage(centred, assume_centered=True)) if shrinkage is None else shrinkage
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    kept = singular > TINY * singular.max(initial=0)
    variances = singular[kept] ** 2 / len(centred)
    mean_variance = variances.sum() / centred.shape[1]
    coordinates = left[:, kept] * singular[kept]
    between = np.zeros(len(variances))
    for label in np.unique(labels):
        own = labels == label
        between += own.mean() * coordinates[own].mean(axis=0) ** 2
    return float(np.sum((1 - s) * between / ((1 - s) * variances + s * mean_variance)))


def _evidence(squares: Array, projected: Array, y: Array) -> float:
    """Maximise L, given the squared singular values (k,) of F, its left singular vectors' u'y (k,), and y (n,).

    In their basis m_i = beta s_i u_i'y / (alpha + beta s_i^2); the other d - k directions cancel in ln |A|.
    """
    n, outside = len(y), max(float(y @ y - projected @ projected), 0.0)
    alpha, beta = 1.0, 1.0
    for _ in range(STEPS):
        before = (alpha, beta)
        length, error, known = _posterior(squares, projected, outside, alpha=alpha, beta=beta)
        alpha = float(np.clip(known / max(length, TINY**2), *PRECISIONS))
        beta = float(np.clip((n - known) / max(error, TINY**2), *PRECISIONS))
        if np.allclose((alpha, beta), before, rtol=1e-8, atol=0):
            break
    length, error, _ = _posterior(squares, projected, outside, alpha=alpha, beta=beta)
    fit = n * np.log(beta / (2 * np.pi)) - beta * error - alpha * length
    return float(fit - np.log1p(beta * squares / alpha).sum()) / 2


def _posterior(
    squares: Array, projected: Array, outside: float, *, alpha: float, beta: float
) -> tuple[float, float, float]:
    """Compute m'm, ||F m - y||^2 and gamma = sum beta s^2 / (alpha + beta s^2), the effective number of parameters."""
    precision = alpha + beta * squares
    length = np.sum(beta**2 * squares * projected**2 / precision**2)
    error = outside + np.sum((alpha * projected / precision) ** 2)
    return float(length), float(error), float(np.sum(beta * squares / precision))
