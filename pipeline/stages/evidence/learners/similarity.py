"""Compare the features of two networks by centred kernel alignment (CKA)."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST = 4  # cases that the debiased form needs


def linear_cka(a: NDArray[np.floating], b: NDArray[np.floating], debiased: bool = True) -> float:
    """Compute linear CKA: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K = A A', L = B B'.

    It is 1 if one set of features is the other, rotated, shifted or scaled isotropically (Kornblith, Norouzi, Lee,
    Hinton 2019, "Similarity of neural network representations revisited", section 3). The plain form, in [0, 1], uses
    HSIC = tr(K H L H) with the centring matrix H, and approaches 1 for any two networks with fewer cases than
    features. The debiased form, at most 1 and 0 in expectation for independent features, uses the unbiased estimate of
    HSIC (Nguyen, Raghu, Kornblith 2021, "Do wide and deep networks learn the same things?", equation 3; Song et al.
    2012, "Feature selection via dependence maximization", section 3).

    Parameters
    ----------
    a, b : (n, d1), (n, d2)
        Features of the same cases in the same order; the debiased form assumes independent cases, so one per patient.
    debiased : bool

    Returns
    -------
    float
        NaN if the features of one network are constant.

    Raises
    ------
    ValueError
        If the numbers of cases differ, or are below four for the debiased form.
    """
    if len(a) != len(b):
        raise ValueError(f"the features are of {len(a)} and {len(b)} cases; CKA needs the same cases")
    if debiased and len(a) < FEWEST:
        raise ValueError(f"debiased CKA needs at least {FEWEST} cases, but there are {len(a)}")
    first, second = _centred(a), _centred(b)
    own, other = _hsic(first, first, debiased), _hsic(second, second, debiased)
    return _hsic(first, second, debiased) / math.sqrt(own * other) if min(own, other) > 0 else math.nan


def by_stage(
    a: NDArray[np.floating], b: NDArray[np.floating], widths: Sequence[int], debiased: bool = True
) -> list[float]:
    """Compare two networks of the same architecture stage by stage.

    Parameters
    ----------
    a, b : (n, sum of widths)
        The concatenated pooled features of the stages, from `Encoder`.
    widths : sequence of int
        Number of features of each stage, in order.

    Raises
    ------
    ValueError
        If the widths do not sum to the features of both; and as `linear_cka` does.
    """
    if {a.shape[1], b.shape[1]} != {sum(widths)}:
        raise ValueError(f"the stages have {sum(widths)} features, but the arrays have {a.shape[1]} and {b.shape[1]}")
    edges = pairwise(accumulate(widths, initial=0))
    return [linear_cka(a[:, low:high], b[:, low:high], debiased) for low, high in edges]


def _centred(features: NDArray[np.floating]) -> Floats:
    centred = np.asarray(features, dtype=np.float64) - np.mean(features, axis=0, dtype=np.float64)
    centred[:, np.ptp(features, axis=0) == 0] = 0  # constant features must not leave rounding errors
    return centred


def _hsic(a: Floats, b: Floats, debiased: bool) -> float:
    """Estimate HSIC up to a factor that cancels, from the cross-covariances of centred features (n, d1) and (n, d2).

    tr(K H L H) is the squared Frobenius norm of A'B. Features that add up to 0 leave of the unbiased estimate that norm
    and the diagonals k and l: ||A'B||^2 - n / (n - 2) sum_i k_i l_i + sum k sum l / ((n - 1) (n - 2)).
    """
    norm, n = float(np.square(a.T @ b).sum()), len(a)
    if not debiased:
        return norm
    k, l = np.square(a).sum(axis=1), np.square(b).sum(axis=1)  # noqa: E741
    return norm - float(n / (n - 2) * (k @ l) - k.sum() * l.sum() / ((n - 1) * (n - 2)))
