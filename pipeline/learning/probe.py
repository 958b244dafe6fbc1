"""The cheapest honest classifier: logistic regression on frozen features, its penalty chosen by inner validation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

PENALTIES = tuple(10.0**power for power in (-4, -3.5, -3, -2.5, -2, -1.5, -1, 0))  # C of scikit-learn
MAX_PARTS = 5
FLOOR = 0.1  # least spread of a feature, as a share of the median one


@dataclass(frozen=True)
class Probe:
    """A linear classifier of standardised features: logits = weight (x - centre) / spread + bias.

    Attributes
    ----------
    weight : (n_classes, width) float64
    bias : (n_classes,) float64
    centre, spread : (width,) float64
        Of each feature over the training cases, see `standardisation`.
    penalty : float
        The inverse regularisation C that won.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    penalty: float


def fit_probe(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: NDArray[np.str_],
    n_classes: int,
    balanced: bool,
    seed: int,
) -> Probe:
    """Fit a logistic regression on standardised features, C by patient-grouped cross-validation of the log-loss.

    Parameters
    ----------
    features : (n, width)
        Several rows of one case (augmented views) are fine: they share its patient.
    labels : (n,) int
        In [0, n_classes); every class present.
    patients : (n,)
        The unit of the inner folds.
    balanced : bool
        Give every class the same total weight.
    """
    centre, spread = standardisation(np.asarray(features, dtype=np.float64))
    scaled = (features - centre) / spread
    weight = "balanced" if balanced else None
    penalty = _best_penalty(scaled, labels, patients, weight, seed)
    model = LogisticRegression(C=penalty, class_weight=weight, max_iter=2000).fit(scaled, labels)
    slope, intercept = _one_row_per_class(model, n_classes)
    return Probe(slope, intercept, centre, spread, penalty)


def standardisation(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the location and spread of features (n, width): s_f = sqrt(var_f + (FLOOR median_g sd_g)^2).

    A feature that hardly varies over the training cases would otherwise be blown up by hundreds at a site where it
    does, and decide alone.
    """
    deviation = features.std(axis=0)
    spread = np.hypot(deviation, FLOOR * np.median(deviation))
    return features.mean(axis=0), np.where(spread > 0, spread, 1.0)


def out_of_fold_logits(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: NDArray[np.str_],
    n_classes: int,
    balanced: bool,
    seed: int,
) -> NDArray[np.float64]:
    """Let each case be judged by a probe that saw no row of its patient, nor chose its penalty by one.

    Where the classes were balanced their prevalence in the training part is put back: subtracting ln w_c undoes the
    weight w_c (Saerens, Latinne, Decaestecker 2002, equation 4), as `finetune` does.

    Parameters
    ----------
    features, labels, patients, n_classes, balanced, seed
        As `fit_probe` takes them.

    Returns
    -------
    (n, n_classes) float64

    Raises
    ------
    ValueError
        If a class has too few patients to be in every training part; the message gives its number.
    """
    patients_of = [len(set(patients[labels == label])) for label in range(n_classes)]
    if min(patients_of) < 2:
        raise ValueError(f"class {int(np.argmin(patients_of))} has {min(patients_of)} patient(s); a probe needs two")
    splitter = StratifiedGroupKFold(min(MAX_PARTS, *patients_of), shuffle=True, random_state=seed)
    logits = np.empty((len(labels), n_classes))
    for train, test in splitter.split(features, labels, patients):
        counts = np.bincount(labels[train], minlength=n_classes)
        if not counts.all():
            raise ValueError(f"class {int(counts.argmin())} has too few patients to be in every part of the probe's")
        probe = fit_probe(features[train], labels[train], patients[train], n_classes, balanced, seed)
        prior = np.log(counts / counts.sum()) if balanced else 0
        logits[test] = (features[test] - probe.centre) / probe.spread @ probe.weight.T + probe.bias + prior
    return logits


def _best_penalty(
    scaled: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: NDArray[np.str_],
    weight: str | None,
    seed: int,
) -> float:
    fewest = min(len(set(patients[labels == label])) for label in np.unique(labels))
    if fewest < 2:
        return 1e-2
    splitter = StratifiedGroupKFold(min(MAX_PARTS, fewest), shuffle=True, random_state=seed)
    losses = np.zeros(len(PENALTIES))
    for train, test in splitter.split(scaled, labels, patients):
        for number, penalty in enumerate(PENALTIES):
            model = LogisticRegression(C=penalty, class_weight=weight, max_iter=1000).fit(scaled[train], labels[train])
            losses[number] += log_loss(labels[test], model.predict_proba(scaled[test]), labels=model.classes_) * len(
                test
            )
    return PENALTIES[int(losses.argmin())]


def _one_row_per_class(model: LogisticRegression, n_classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Write the two-class model, which scikit-learn keeps as one row, as two rows of opposite sign."""
    if n_classes == 2:
        return np.vstack([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2
    return model.coef_, model.intercept_
