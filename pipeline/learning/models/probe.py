"""Linear probe: logistic, ridge or Cox regression on frozen features, its C chosen by cross-validation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.learning.models.cox import fit_cox, partial_likelihood
from pipeline.learning.models.ordinal import fit_ordinal, ordinal_logits
from pipeline.learning.models.tasks import Name

CS = tuple(10.0**power for power in (-4, -3.5, -3, -2.5, -2, -1.5, -1, 0))  # candidate values of scikit-learn's C
MAX_PARTS = 5
PER_QUANTILE = 10  # least number of cases in a quantile of a regression
FLOOR = 0.1  # least scale of a feature, as a share of the median standard deviation
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Probe:
    """A linear classifier of standardised features: logits = weight (x - mean) / scale + bias.

    Attributes
    ----------
    weight : (n_classes, width) float64
        (1, width) for ordinal grades.
    bias : (n_classes,) float64
        For ordinal grades the thresholds (n_classes - 1,), see `heads.OrdinalHead`.
    mean, scale : (width,) float64
        Mean and scale of each feature over the training cases, see `standardisation`.
    c : float
        The chosen inverse regularisation strength, scikit-learn's C.
    """

    weight: Floats
    bias: Floats
    mean: Floats
    scale: Floats
    c: float


def fit_probe(
    features: NDArray[np.floating],
    targets: NDArray[np.floating],
    patients: NDArray[np.str_],
    *,
    balanced: bool,
    seed: int,
    task: Name = "multiclass",
) -> Probe:
    """Fit a logistic regression on standardised features, C by patient-grouped cross-validation of the log-loss.

    A regression is fitted by ridge regression with the penalty 1 / C, chosen by the squared error. Survival is fitted
    by Cox regression, with C chosen by the cross-validated partial likelihood.

    Parameters
    ----------
    features : (n, width)
        A case may have several rows (augmented views), which share its patient.
    targets : (n, n_classes)
        As described in `tasks`; every class is present, of every finding both values.
    patients : (n,)
        Patient of each row, the unit of the inner folds.
    balanced : bool
        Whether every class, or both values of every finding, have the same total weight.
    task : str
        "ordinal" fits proportional odds; "multilabel" fits one regression per finding, with a common C; "regression"
        and "survival" take targets (n, 1).
    """
    mean, scale = standardisation(np.asarray(features, dtype=np.float64))
    coordinates, axes = _in_their_span((features - mean) / scale)
    c = _best_c(coordinates, targets, patients, balanced=balanced, seed=seed, task=task)
    weight, bias = _fit(coordinates, targets, c, balanced=balanced, task=task)
    return Probe(weight=weight @ axes, bias=bias, mean=mean, scale=scale, c=c)


def standardisation(features: Floats) -> tuple[Floats, Floats]:
    """Compute the mean and scale of features (n, width): s_f = sqrt(var_f + (FLOOR median_g sd_g)^2).

    Without the floor, a feature that hardly varies over the training cases would be scaled up so much that it could
    dominate the prediction at a site where it does vary.
    """
    deviation = features.std(axis=0)
    scale = np.hypot(deviation, FLOOR * np.median(deviation))
    return features.mean(axis=0), np.where(scale > 0, scale, 1.0)


def out_of_fold_logits(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: NDArray[np.str_],
    n_classes: int,
    *,
    balanced: bool,
    seed: int,
) -> Floats:
    """Predict each case by a probe whose weights and C were fitted without its patient.

    If classes are balanced, the prevalence of the training part is restored: subtracting ln w_c undoes the weight w_c
    (Saerens, Latinne, Decaestecker 2002, equation 4), as `finetune` does.

    Parameters
    ----------
    labels : (n,) int
        In [0, n_classes); every class is present.
    features, patients, balanced, seed
        As in `fit_probe`.

    Returns
    -------
    (n, n_classes) float64

    Raises
    ------
    ValueError
        If a class has too few patients to be in every training part; the message names the class.
    """
    patients_of = [len(set(patients[labels == label])) for label in range(n_classes)]
    if min(patients_of) < 2:
        raise ValueError(f"class {int(np.argmin(patients_of))} has {min(patients_of)} patient(s); a probe needs two")
    splitter = StratifiedGroupKFold(min(MAX_PARTS, *patients_of), shuffle=True, random_state=seed)
    targets, logits = np.eye(n_classes)[labels], np.empty((len(labels), n_classes))
    for train, test in splitter.split(features, labels, patients):
        counts = np.bincount(labels[train], minlength=n_classes)
        if not counts.all():
            raise ValueError(f"class {int(counts.argmin())} has too few patients to be in every part of the probe's")
        probe = fit_probe(features[train], targets[train], patients[train], balanced=balanced, seed=seed)
        prior = np.log(counts / counts.sum()) if balanced else 0
        logits[test] = (features[test] - probe.mean) / probe.scale @ probe.weight.T + probe.bias + prior
    return logits


def parts(
    targets: NDArray[np.floating], patients: NDArray[np.str_], *, most: int, seed: int, task: Name
) -> list[tuple[Ints, Ints]]:
    """Split cases into parts by patient, stratified by `strata`; return the training and evaluated rows of each part.

    The number of parts is that of the patients of the rarest stratum, but at most `most`. There are no parts if the
    rarest stratum has a single patient.
    """
    kinds = strata(targets, task)
    fewest = min(len(set(patients[kinds == kind])) for kind in np.unique(kinds))
    if task == "multilabel":
        fewest = min(len(set(patients)), int(np.bincount(kinds).max()))  # at least one stratum is in every part
    if fewest < 2:
        return []
    splitter = StratifiedGroupKFold(min(most, fewest), shuffle=True, random_state=seed)
    return list(splitter.split(kinds, kinds, patients))


def strata(targets: NDArray[np.floating], task: Name) -> Ints:
    """Find the stratum of each case (n,): its class; for findings 1 + the rarest present one, 0 if none is present.

    For regression it is one of up to five quantiles of the number, with at least `PER_QUANTILE` cases each,
    for survival whether the case is an event.
    """
    if task == "survival":
        return np.asarray(targets[:, 0] > 0).astype(np.int64)
    if task == "regression":
        count = int(np.clip(len(targets) // PER_QUANTILE, 1, MAX_PARTS))
        return np.asarray(targets[:, 0].argsort(kind="stable").argsort() * count // max(len(targets), 1))
    if task != "multilabel":
        return np.asarray(targets.argmax(axis=1))
    there = np.nan_to_num(targets)
    rarity = there / np.maximum(there.sum(axis=0), 1)
    return np.where(there.any(axis=1), rarity.argmax(axis=1) + 1, 0)


def _in_their_span(scaled: Floats) -> tuple[Floats, Floats]:
    """Express rows (n, width) in the space that they span: coordinates (n, r) and axes (r, width), r <= n.

    A ridge penalty is invariant under rotation, and the weights orthogonal to all rows are zero, so the fit is the
    same in a fraction of the time (Hastie, Tibshirani, Friedman 2009, section 18.3.5).
    """
    if len(scaled) >= scaled.shape[1]:
        return scaled, np.eye(scaled.shape[1])
    left, singular, axes = np.linalg.svd(scaled, full_matrices=False)
    return left * singular, axes


def _best_c(
    scaled: Floats,
    targets: NDArray[np.floating],
    patients: NDArray[np.str_],
    *,
    balanced: bool,
    seed: int,
    task: Name,
) -> float:
    losses = np.zeros(len(CS))
    assigned = parts(targets, patients, most=MAX_PARTS, seed=seed, task=task)
    for train, test in assigned:
        for number, c in enumerate(CS):
            weight, bias = _fit(scaled[train], targets[train], c, balanced=balanced, task=task)
            if task == "survival":
                losses[number] += _partial(scaled, targets, weight) - _partial(scaled[train], targets[train], weight)
            else:
                losses[number] += _log_losses(scaled[test] @ weight.T, bias, targets[test], task)
    return CS[int(losses.argmin())] if assigned else 1e-2


def _fit(
    scaled: Floats, targets: NDArray[np.floating], c: float, *, balanced: bool, task: Name
) -> tuple[Floats, Floats]:
    """Fit weights and bias at one C."""
    if task == "ordinal":
        return fit_ordinal(scaled, targets, c, balanced)
    if task == "regression":
        model = Ridge(alpha=1 / c).fit(scaled, targets[:, 0])
        return np.asarray(model.coef_, dtype=np.float64)[None], np.array([model.intercept_], dtype=np.float64)
    if task == "survival":
        return fit_cox(scaled, targets, c)[None], np.zeros(1)
    if task == "multiclass":
        return _one_regression(scaled, targets.argmax(axis=1), c, n_classes=targets.shape[1], balanced=balanced)
    rows = list(_findings(scaled, targets, balanced, c))
    return np.vstack([weight for weight, _ in rows]), np.concatenate([bias for _, bias in rows])


def _partial(scaled: Floats, targets: NDArray[np.floating], weight: Floats) -> float:
    """Compute the negative log partial likelihood; what a part adds to it is the part's loss.

    The risk sets of a part alone would be small (Verweij, van Houwelingen 1993, "Cross-validation in survival
    analysis", section 3).
    """
    return partial_likelihood((scaled @ weight.T)[:, 0], targets)[0]


def _findings(
    scaled: Floats, targets: NDArray[np.floating], balanced: bool, c: float
) -> Iterator[tuple[Floats, Floats]]:
    for column in targets.T:
        known = ~np.isnan(column)
        there = column[known].astype(int)
        if len(set(there)) < 2:  # one value only in this part: its share, with a case of each value added
            share = (there.sum() + 1) / (len(there) + 2)
            yield np.zeros((1, scaled.shape[1])), np.array([np.log(share / (1 - share))])
        else:
            weight, bias = _one_regression(scaled[known], there, c, n_classes=2, balanced=balanced)
            yield weight[1:] * 2, bias[1:] * 2


def _one_regression(scaled: Floats, labels: Ints, c: float, *, n_classes: int, balanced: bool) -> tuple[Floats, Floats]:
    """Fit scikit-learn's model; the single row of a two-class model becomes two rows of opposite sign."""
    model = LogisticRegression(C=c, class_weight="balanced" if balanced else None, max_iter=2000)
    model.fit(scaled, labels)
    if n_classes == 2:
        return np.vstack([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2
    weight, bias = np.zeros((n_classes, scaled.shape[1])), np.full(n_classes, -np.inf)
    weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def _log_losses(scores: Floats, bias: Floats, targets: NDArray[np.floating], task: Name) -> float:
    """Sum the log-losses (nats) of cases (n, n_classes), for findings over all known values; or squared errors."""
    if task == "regression":
        return float(np.square(scores + bias - targets).sum())
    if task == "multilabel":
        signs = np.where(targets == 1, 1.0, -1.0)
        return float(-log_expit(signs * (scores + bias))[~np.isnan(targets)].sum())
    logits = ordinal_logits(scores, bias) if task == "ordinal" else scores + bias
    return float(-log_softmax(logits, axis=1)[targets == 1].sum())
