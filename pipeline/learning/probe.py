"""The cheapest honest classifier: logistic regression on frozen features, its penalty chosen by inner validation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

PENALTIES = tuple(10.0**power for power in (-4, -3.5, -3, -2.5, -2, -1.5, -1, 0))  # C of scikit-learn
MAX_PARTS = 5


@dataclass(frozen=True)
class Probe:
    """A linear classifier of standardised features: logits = weight (x - centre) / spread + bias.

    Attributes
    ----------
    weight : (n_classes, width) float64
    bias : (n_classes,) float64
    centre, spread : (width,) float64
        Mean and standard deviation of each feature over the training cases.
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
    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)
    weight = "balanced" if balanced else None
    penalty = _best_penalty(scaled, labels, patients, weight, seed)
    model = LogisticRegression(C=penalty, class_weight=weight, max_iter=2000).fit(scaled, labels)
    slope, intercept = _one_row_per_class(model, n_classes)
    return Probe(slope, intercept, scaler.mean_, scaler.scale_, penalty)


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
