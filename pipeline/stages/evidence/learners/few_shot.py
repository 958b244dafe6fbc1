"""Run few-shot episodes: classify with frozen features from a few labelled patients of each class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from pipeline.learning.models.heads import NeighboursHead
from pipeline.learning.models.probe import standardisation

Method = Literal["prototype", "knn", "probe"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scores = dict[tuple[Method, int], Floats]

VOTERS = 20  # at most (Caron et al. 2021, "Emerging properties in self-supervised vision transformers", section 3.2)
C = 1e-2  # scikit-learn's, for standardised features; `fit_probe` uses it where C cannot be selected
TINY = 1e-10


@dataclass(frozen=True)
class Pool:
    """The features of cases, with their labels and patients.

    Attributes
    ----------
    features : (n, width)
    labels : (n,) int
        In [0, n_classes).
    patients : (n,) str
    """

    features: NDArray[np.floating]
    labels: Ints
    patients: NDArray[np.str_]


@dataclass(frozen=True)
class Episodes:
    """Which episodes to draw.

    Attributes
    ----------
    n_classes : int
    shots : sequence of int
        Labelled patients per class, k; a k is left out if a class has fewer patients.
    count : int
        Episodes for each k.
    seed : int
    """

    n_classes: int
    shots: Sequence[int]
    count: int
    seed: int


def episode_scores(support: Pool, query: Pool, episodes: Episodes) -> Scores:
    """Train on k labelled patients of each class in every episode, and evaluate the same cases each time.

    An episode draws k patients of each class and one case of each. The draw depends only on labels, patients, seed, k
    and the number of the episode, so that two encoders are compared on the same episodes, and other values of k or
    more episodes do not change it. The three methods have no hyper-parameters, because one shot leaves no data for
    selecting them:

    - prototype: softmax of -d^2 / width, d the Euclidean distance to the mean of a class (Snell, Swersky, Zemel 2017,
      "Prototypical networks for few-shot learning", equations 1 and 2). The width keeps the softmax from saturating.
    - knn: the 20 nearest cases (or all, if there are fewer) vote, weighted by exp(cos / 0.07) as in `NeighboursHead`
      (Wu et al. 2018, section 3.4).
    - probe: logistic regression with C = 0.01.

    Features are standardised by the whole support pool (`probe.standardisation`), which needs no labels: the setting
    is that all images of the training patients are available and only labels are scarce.

    Parameters
    ----------
    support : Pool
        The training cases of a fold.
    query : Pool
        The evaluated cases, of other patients; their labels are not used.
    episodes : Episodes

    Returns
    -------
    dict of (method, k) to (count, queries, n_classes) float64
        Rows sum to one. They rank cases, but are not calibrated probabilities.

    Raises
    ------
    ValueError
        If a patient is in both pools, or cases have several labels.
    """
    _check(support, query)
    mean, scale = standardisation(np.asarray(support.features, dtype=np.float64))
    known, asked = ((pool.features - mean) / scale for pool in (support, query))
    lengths = np.square(asked).sum(axis=1)
    rows_of = [_rows_by_patient(support, label) for label in range(episodes.n_classes)]
    scores: Scores = {}
    for k in sorted(k for k in set(episodes.shots) if k <= min(map(len, rows_of))):
        member = np.repeat(np.eye(episodes.n_classes), k, axis=0)
        found: dict[Method, list[Floats]] = {"prototype": [], "knn": [], "probe": []}
        for rows in draws(rows_of, k, episodes.count, episodes.seed):
            drawn = known[rows]
            own, other = drawn @ drawn.T, asked @ drawn.T
            found["prototype"].append(_by_prototype(own, other, member, width=known.shape[1]))
            found["knn"].append(_by_neighbours(own, other, member, lengths=lengths))
            found["probe"].append(_by_probe(own, other, member))
        scores |= {(method, k): np.stack(of_method) for method, of_method in found.items()}
    return scores


def draws(rows_of: Sequence[Sequence[Ints]], k: int, n_episodes: int, seed: int) -> Iterator[Ints]:
    """Draw k patients of each class and one case of each for every episode: (n_classes k,) rows, class by class.

    Parameters
    ----------
    rows_of : sequence of sequence of (m,) int64
        For each class, the rows of each of its patients.
    """
    for episode in range(n_episodes):
        rng = np.random.default_rng([seed, k, episode])
        drawn = [own[number] for own in rows_of for number in rng.choice(len(own), k, replace=False)]
        yield np.array([rng.choice(rows) for rows in drawn])


def _check(support: Pool, query: Pool) -> None:
    if support.labels.ndim != 1 or query.labels.ndim != 1:
        raise ValueError("few-shot episodes need one class per case, but cases have several labels")
    both = sorted(set(support.patients) & set(query.patients))
    if both:
        raise ValueError(f"{len(both)} patient(s) are both trained on and evaluated, for example {both[0]}")


def _rows_by_patient(pool: Pool, label: int) -> list[Ints]:
    """List the rows of a class, patient by patient."""
    rows = np.flatnonzero(pool.labels == label)
    return [rows[pool.patients[rows] == patient] for patient in np.unique(pool.patients[rows])]


# The three methods need inner products only: inner (m, m) of the drawn cases, across (t, m) of the evaluated with the
# drawn ones, lengths (t,) of the evaluated ones with themselves; member (m, C) marks the class of each drawn case.


def _by_prototype(inner: Floats, across: Floats, member: Floats, width: int) -> Floats:
    """Score by ||x - c||^2 = x'x - 2 x'c + c'c; the first term is the same for all classes."""
    share = member / member.sum(axis=0)
    return np.asarray(softmax((2 * across @ share - np.diag(share.T @ inner @ share)) / width, axis=1))


def _by_neighbours(inner: Floats, across: Floats, member: Floats, lengths: Floats) -> Floats:
    cosine = across / np.maximum(np.sqrt(np.outer(lengths, np.diag(inner))), TINY)
    last = np.sort(cosine, axis=1)[:, -min(VOTERS, len(inner)), None]
    votes = softmax(np.where(cosine >= last, cosine, -np.inf) / NeighboursHead.TEMPERATURE, axis=1)
    return np.asarray(votes @ member)


def _by_probe(inner: Floats, across: Floats, member: Floats) -> Floats:
    """Fit in the space spanned by the drawn cases; a ridge penalty keeps the weights in it anyway."""
    squares, axes = np.linalg.eigh(inner)
    kept = squares > TINY * squares[-1]
    axes = axes[:, kept] / np.sqrt(squares[kept])
    if not kept.any():  # all cases are the same
        return np.full((len(across), member.shape[1]), 1 / member.shape[1])
    model = LogisticRegression(C=C, max_iter=2000).fit(inner @ axes, member.argmax(axis=1))
    return np.asarray(model.predict_proba(across @ axes))
