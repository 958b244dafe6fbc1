"""How alike two networks see the same cases: centred kernel alignment of their features."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST = 4  # cases, of the debiased form


def linear_cka(a: NDArray[np.floating], b: NDArray[np.floating], debiased: bool = True) -> float:
    """Centred kernel alignment, linear: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K = A A', L = B B'.

    1 where one is the other rotated, shifted or scaled as a whole (Kornblith, Norouzi, Lee, Hinton 2019, "Similarity of
    neural network representations revisited", section 3). The plain form, in [0, 1], takes HSIC = tr(K H L H), H the
    centring, and nears 1 for any two networks where there are fewer cases than features. The debiased form, at most 1
    and 0 in expectation for independent features, takes the unbiased estimate of HSIC (Nguyen, Raghu, Kornblith 2021,
    "Do wide and deep networks learn the same things?", equation 3; Song et al. 2012, "Feature selection via dependence
    maximization", section 3).

    Parameters
    ----------
    a, b : (n, d1), (n, d2)
        Features of the same cases in the same order; for the debiased form these should be independent of each other,
        so one case of a patient.
    debiased : bool

    Returns
    -------
    float
        NaN where the features of one do not differ between the cases.

    Raises
    ------
    ValueError
        If the cases are not as many, or for the debiased form fewer than four.
    """
    if len(a) != len(b):
        raise ValueError(f"the features are of {len(a)} and of {len(b)} cases; similarity needs the same cases")
    if debiased and len(a) < FEWEST:
        raise ValueError(f"the debiased similarity needs {FEWEST} cases at least, and there are {len(a)}")
    first, second = _centred_kernel(a, debiased), _centred_kernel(b, debiased)
    own, other = float((first * first).sum()), float((second * second).sum())
    return float((first * second).sum() / np.sqrt(own * other)) if min(own, other) > 0 else float("nan")


def by_stage(
    a: NDArray[np.floating], b: NDArray[np.floating], widths: Sequence[int], debiased: bool = True
) -> list[float]:
    """Compare two networks of one build stage by stage.

    Parameters
    ----------
    a, b : (n, sum of widths)
        The pooled features of the stages side by side, as `Encoder` gives them.
    widths : sequence of int
        Features of each stage, in their order.

    Raises
    ------
    ValueError
        If the widths do not sum to the features of both; and as `linear_cka` does.
    """
    if {a.shape[1], b.shape[1]} != {sum(widths)}:
        raise ValueError(f"stages of {sum(widths)} features in all, but there are {a.shape[1]} and {b.shape[1]}")
    edges = pairwise(accumulate(widths, initial=0))
    return [linear_cka(a[:, low:high], b[:, low:high], debiased) for low, high in edges]


def _centred_kernel(features: NDArray[np.floating], debiased: bool) -> Floats:
    """Give K (n, n) centred such that sum_ij K_ij L_ij is HSIC(K, L), but for a factor that cancels.

    Debiased: the U-centring of Szekely and Rizzo 2014, "Partial distance correlation with methods for dissimilarities",
    definition 2, whose validation product is the unbiased estimate, term by term.
    """
    centred = np.asarray(features, dtype=np.float64) - np.mean(features, axis=0, dtype=np.float64)
    centred[:, np.ptp(features, axis=0) == 0] = 0  # what rounding left of them would be a direction like any other
    kernel, n = centred @ centred.T, len(centred)
    if not debiased:
        return kernel
    np.fill_diagonal(kernel, 0)
    sums = kernel.sum(axis=0)
    kernel += sums.sum() / ((n - 1) * (n - 2)) - (sums[:, None] + sums) / (n - 2)
    np.fill_diagonal(kernel, 0)
    return kernel
