"""Estimate the prevalences of the classes at a new site from unlabelled scans, under the assumption of label shift.

Under label shift the images of each class look as in development, and only the shares of the classes differ. A scanner
that changes the images violates it, and then shifts predictions as another prevalence does; `fit` measures how far the
predictions are from any mixture of those of the classes in development.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from pipeline.metrics.bootstrap import cluster_weights

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

STEPS, TOLERANCE = 2000, 1e-7
DRAWS = 500
TEST_LEVEL = 0.05


@dataclass(frozen=True)
class Prevalences:
    """Estimated prevalences of K classes at a site.

    Attributes
    ----------
    shares, lower, upper : (K,)
        Maximum likelihood, and 95 % intervals over patients.
    change : float
        p-value of the prevalences of development, by the likelihood ratio; development patients vary as those here do.
    fit : float
        p-value of label shift: how often a mixture of development predictions is as far from its expectation.
    """

    shares: Floats
    lower: Floats
    upper: Floats
    change: float
    fit: float

    @property
    def differ(self) -> bool:
        """Whether the prevalences differ from those of development by more than chance."""
        return self.change < TEST_LEVEL

    @property
    def fits(self) -> bool:
        """Whether the predictions agree with another prevalence alone."""
        return self.fit >= TEST_LEVEL

    def nearest_to(self, prior: Floats) -> Floats:
        """Move the prevalences of development (K,) only as far as the intervals ask for, each to its nearer limit.

        With few patients the maximum of the likelihood often lies at 0 or 1, and a correction by it costs more
        log-loss than it saves.
        """
        moved = np.clip(prior, self.lower, self.upper)
        return np.asarray(moved / moved.sum())


def estimate_prevalences(
    probabilities: Floats,
    patients: Names,
    prior: Floats,
    reference: Sequence[Floats],
    *,
    of_images: Floats,
    seed: int = 0,
) -> Prevalences:
    """Estimate the prevalences from calibrated predictions of unlabelled scans, each patient with the same weight.

    Parameters
    ----------
    probabilities : (n, K)
        Calibrated on the images of development.
    patients : (n,)
    prior : (K,)
        Prevalences of the classes among the patients of development, above 0, with sum 1.
    reference : sequence of K arrays (K, m_k)
        Probabilities of each class (rows, each in any order), of development patients of class k.
    of_images : (K,)
        The same among the images of development: patients of one class may have more of them.
    seed : int
        Of the draws.
    """
    likelihoods = probabilities / of_images
    drawn = cluster_weights(patients, DRAWS, seed)
    _, inverse, counts = np.unique(patients, return_inverse=True, return_counts=True)
    weights = drawn / counts[inverse]
    shares = fitted_shares(likelihoods, weights, prior)
    gain = 2 * float(weights[0] @ np.log(likelihoods @ shares[0] / (likelihoods @ prior)))
    known = sum(one.shape[1] for one in reference)
    lower, upper = np.quantile(shares[1:], [0.025, 0.975], axis=0)
    return Prevalences(
        shares=shares[0],
        lower=lower,
        upper=upper,
        change=float(chi2.sf(gain / (1 + weights[0].sum() / known), len(prior) - 1)),
        fit=_fit_of(probabilities, weights[0], shares[0], reference, seed=seed),
    )


def fitted_shares(likelihoods: Floats, weights: Floats, start: Floats) -> Floats:
    """Maximise sum_i w_i ln sum_k pi_k l_ik over the shares pi, for each row of weights (R, n): (R, K).

    Expectation maximisation, which starts at `start`: pi_k becomes the weighted mean of pi_k l_ik / sum_j pi_j l_ij
    (Saerens, Latinne, Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities",
    equation 2.9). The likelihood is concave, so that there is one maximum.

    Parameters
    ----------
    likelihoods : (n, K)
        Likelihoods of the images by class, up to a factor for each image: p(class | image) / prior(class).
    """
    total = weights.sum(axis=1, keepdims=True)
    shares = np.tile(start, (len(weights), 1))
    for _ in range(STEPS):
        of_images = weights / np.maximum(shares @ likelihoods.T, 1e-300)
        new = shares * (of_images @ likelihoods) / total
        done = np.abs(new - shares).max() < TOLERANCE
        shares = new
        if done:
            break
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))  # rounding may leave a share above 1


def _fit_of(probabilities: Floats, weights: Floats, shares: Floats, reference: Sequence[Floats], *, seed: int) -> float:
    """Test label shift by the largest distance between distribution functions, over classes.

    Under the null hypothesis both the reference and the site are drawn from the reference, each class by itself. The
    shares are not fitted again in each draw, so that the test is conservative.
    """
    rng = np.random.default_rng(seed)
    n_patients = max(round(weights.sum()), 1)
    found = max(
        _distance(column, weights, [one[number] for one in reference], shares)
        for number, column in enumerate(probabilities.T)
    )
    sizes = [one.shape[1] for one in reference]
    beyond = 0
    for _ in range(DRAWS):
        of_class = rng.multinomial(n_patients, shares)
        site = [_drawn(one, n, rng) for one, n in zip(reference, of_class, strict=True)]
        again = [_drawn(one, size, rng) for one, size in zip(reference, sizes, strict=True)]
        drawn, even = np.concatenate(site, axis=1), np.ones(n_patients)
        largest = max(
            _distance(column, even, [one[number] for one in again], shares) for number, column in enumerate(drawn)
        )
        beyond += largest >= found
    return (1 + beyond) / (1 + DRAWS)


def _drawn(values: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Draw from each row of values (K, m) by itself, with replacement: (K, count)."""
    return np.take_along_axis(values, rng.integers(values.shape[1], size=(len(values), count)), axis=1)


def _distance(values: Floats, weights: Floats, reference: Sequence[Floats], shares: Floats) -> float:
    """Kolmogorov's distance of weighted values (n,) from the mixture of references (m_k,) with these shares."""
    points = np.sort(np.concatenate([values, *reference]))
    order = np.argsort(values)
    summed = np.append(0.0, np.cumsum(weights[order])) / weights.sum()
    observed = summed[np.searchsorted(values[order], points, side="right")]
    expected = sum(
        share * np.searchsorted(np.sort(one), points, side="right") / len(one)
        for share, one in zip(shares, reference, strict=True)
    )
    return float(np.abs(observed - expected).max())
