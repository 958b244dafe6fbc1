"""Few-shot episodes: what a handful of labelled patients of each class is worth with frozen features."""

from collections.abc import Callable, Iterator, Sequence
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
C = 1e-2  # as in scikit-learn, of features standardised to one; what `fit_probe` takes where nothing can be chosen
TINY = 1e-10


@dataclass(frozen=True)
class Pool:
    """Cases as an encoder sees them.

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


def episode_scores(
    support: Pool, query: Pool, n_classes: int, shots: Sequence[int], n_episodes: int, seed: int
) -> Scores:
    """Learn from k labelled patients of each class, again and again, and evaluate the same cases each time.

    An episode draws k patients of each class and one case of each. Who is drawn depends on labels, patients, seed, k
    and the episode's number only, so that two encoders are compared on the same episodes, and neither another k nor
    more episodes change one. Three methods, none with anything to choose, as one shot leaves nothing to choose by:

    - prototype: softmax of -d^2 / width, d the Euclidean distance to the mean of a class (Snell, Swersky, Zemel 2017,
      "Prototypical networks for few-shot learning", equations 1 and 2). The width keeps the softmax from saturating.
    - knn: the 20 nearest vote (all, where there are fewer), weighted by exp(cos / 0.07) as `NeighboursHead` does
      (Wu et al. 2018, section 3.4).
    - probe: logistic regression with C = 0.01.

    Features are standardised by the whole support pool (`probe.standardisation`), which needs no label: that the
    images of the training patients are at hand, and only labels are few, is the situation that is told about.

    Parameters
    ----------
    support : Pool
        The training cases of a fold.
    query : Pool
        The cases that are evaluated, of other patients; their labels are not looked at.
    n_classes : int
    shots : sequence of int
        k; left out where a class has fewer patients.
    n_episodes, seed : int

    Returns
    -------
    dict of (method, k) to (n_episodes, queries, n_classes) float64
        Rows sum to one. They rank cases; as probabilities they are not calibrated.

    Raises
    ------
    ValueError
        If a patient is on both sides, or a case can have several findings.
    """
    _check(support, query)
    mean, scale = standardisation(np.asarray(support.features, dtype=np.float64))
    known, asked = ((pool.features - mean) / scale for pool in (support, query))
    validation, across, lengths = known @ known.T, asked @ known.T, np.square(asked).sum(axis=1)
    rows_of = [_rows_by_patient(support, label) for label in range(n_classes)]
    scores: Scores = {}
    for k in sorted(k for k in set(shots) if k <= min(map(len, rows_of))):
        episodes = [
            _evaluate(validation[np.ix_(rows, rows)], across[:, rows], lengths, n_classes, known.shape[1])
            for rows in draws(rows_of, k, n_episodes, seed)
        ]
        for method in episodes[0]:
            scores[method, k] = np.stack([episode[method] for episode in episodes])
    return scores


def episodes(
    support: Pool,
    query: Pool,
    n_classes: int,
    shots: Sequence[int],
    n_episodes: int,
    seed: int,
    metric: Callable[[Floats], float],
) -> dict[tuple[Method, int], Floats]:
    """Give a metric of each episode (n_episodes,); `metric` takes scores (queries, n_classes), e.g. to their AUC."""
    scores = episode_scores(support, query, n_classes, shots, n_episodes, seed)
    return {key: np.array([metric(episode) for episode in of_key]) for key, of_key in scores.items()}


def draws(rows_of: Sequence[Sequence[Ints]], k: int, n_episodes: int, seed: int) -> Iterator[Ints]:
    """Draw k patients of each class and one case of each: (n_classes k,) rows, class by class, for every episode.

    Parameters
    ----------
    rows_of : sequence of sequence of (m,) int64
        Of each class the rows of each of its patients.
    """
    for episode in range(n_episodes):
        rng = np.random.default_rng([seed, k, episode])
        drawn = [own[number] for own in rows_of for number in rng.choice(len(own), k, replace=False)]
        yield np.array([rng.choice(rows) for rows in drawn])


def _check(support: Pool, query: Pool) -> None:
    if support.labels.ndim != 1 or query.labels.ndim != 1:
        raise ValueError("few-shot episodes need one class a case; of several findings they are not measured")
    both = sorted(set(support.patients) & set(query.patients))
    if both:
        raise ValueError(f"{len(both)} patient(s) are to be learned from and evaluated, {both[0]} among them")


def _rows_by_patient(pool: Pool, label: int) -> list[Ints]:
    """Give the rows of a class, patient by patient."""
    rows = np.flatnonzero(pool.labels == label)
    return [rows[pool.patients[rows] == patient] for patient in np.unique(pool.patients[rows])]


def _evaluate(validation: Floats, across: Floats, lengths: Floats, n_classes: int, width: int) -> dict[Method, Floats]:
    """Evaluate by all three methods, which need no more than validation products.

    Parameters
    ----------
    validation : (m, m)
        Of the drawn cases, as many of each class, class by class.
    across : (t, m)
        Of the evaluated with the drawn ones.
    lengths : (t,)
        Of the evaluated ones with themselves.
    """
    member = np.repeat(np.eye(n_classes), len(validation) // n_classes, axis=0)
    return {
        "prototype": _by_prototype(validation, across, member, width),
        "knn": _by_neighbours(validation, across, lengths, member),
        "probe": _by_probe(validation, across, member),
    }


def _by_prototype(validation: Floats, across: Floats, member: Floats, width: int) -> Floats:
    """||x - c||^2 = x'x - 2 x'c + c'c; the first is the same for all classes."""
    share = member / member.sum(axis=0)
    return np.asarray(softmax((2 * across @ share - np.diag(share.T @ validation @ share)) / width, axis=1))


def _by_neighbours(validation: Floats, across: Floats, lengths: Floats, member: Floats) -> Floats:
    cosine = across / np.maximum(np.sqrt(np.outer(lengths, np.diag(validation))), TINY)
    last = np.sort(cosine, axis=1)[:, -min(VOTERS, len(validation)), None]
    votes = softmax(np.where(cosine >= last, cosine, -np.inf) / NeighboursHead.TEMPERATURE, axis=1)
    return np.asarray(votes @ member)


def _by_probe(validation: Floats, across: Floats, member: Floats) -> Floats:
    """Fit in the space that the drawn cases span, where a ridge penalty leaves the weights anyway."""
    squares, axes = np.linalg.eigh(validation)
    kept = squares > TINY * squares[-1]
    axes = axes[:, kept] / np.sqrt(squares[kept])
    if not kept.any():  # nothing tells the cases apart
        return np.full((len(across), member.shape[1]), 1 / member.shape[1])
    model = LogisticRegression(C=C, max_iter=2000).fit(validation @ axes, member.argmax(axis=1))
    return np.asarray(model.predict_proba(across @ axes))
