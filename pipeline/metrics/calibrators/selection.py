"""Selects the calibration method by cross-fitted log-loss, and cross-fits calibrators over folds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.calibrators.fitting import ENOUGH_FOR_ISOTONIC, NONE, Calibrator, Unsuitable, fit, suitable
from pipeline.metrics.discrimination import Labels, case_losses
from pipeline.metrics.grouped_folds import assign_evenly

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

AUTO = "auto"
INNER_FOLDS = 5
MOST_FOLDS = 10  # up to this number each group is a fold; more groups are assigned to `INNER_FOLDS` folds
TABLE = ["method", "n_parameters", "log_loss", "difference", "standard_error", "kept", "why"]


@dataclass(frozen=True)
class Choice:
    """The chosen method, and the comparison of all methods.

    Attributes
    ----------
    method : str
    table : pandas.DataFrame
        Columns `TABLE`, one row per method of the task in ascending number of parameters: its cross-fitted log-loss in
        nats; `difference` from the best method so far, below 0 if it is better, with its standard error; `kept`,
        whether it is chosen; and `why`. The metrics are empty if a method cannot be fitted on these cases.
    """

    method: str
    table: pd.DataFrame


def choose(logits: Floats, labels: Labels, groups: Names, patients: Names) -> Choice:
    """Choose the method with the lowest cross-fitted log-loss, preferring fewer parameters among similar ones.

    Methods are compared in ascending number of parameters. One with more parameters is chosen only if its log-loss is
    below that of the best so far by more than one standard error of their difference, paired and summed by patient
    (after the one-standard-error rule: Hastie, Tibshirani and Friedman 2009, section 7.10).

    Parameters
    ----------
    logits : (n, K)
    labels : (n,) int or (n, K) float
        As in `fitting.fit`.
    groups : (n,)
        Folds, or patients, which are assigned to five folds; cross-fitting leaves one fold out at a time.
    patients : (n,)
        Each is in one group only.

    Raises
    ------
    ValueError
        If there are fewer than two groups, or a patient is in two groups.
    """
    folds, n = _folds_of(groups, labels), len(labels)
    rows: list[dict[str, Any]] = []
    kept, counts, losses_of_kept = "", np.zeros(n), np.zeros(n)
    for method in suitable(logits.shape[1], labels.ndim == 2, max(n, ENOUGH_FOR_ISOTONIC)):
        try:
            n_parameters = 0 if method == NONE else fit(method, logits, labels).n_parameters
            losses, counts = case_losses(
                cross_fitted(method, logits, labels, folds=folds, patients=patients)[0], labels
            )
        except Unsuitable as error:
            rows.append({"method": method, "why": str(error)})
            continue
        row = {"method": method, "n_parameters": n_parameters, "log_loss": losses.sum() / counts.sum()}
        weighed, better = _weighed(kept, losses - losses_of_kept, counts, patients)
        rows.append(row | weighed)
        if better:
            kept, losses_of_kept = method, losses
    table = pd.DataFrame(rows, columns=TABLE).astype({"n_parameters": "Int64"})
    return Choice(kept, table.assign(kept=table["method"] == kept))


def fitted(method: str, logits: Floats, labels: Labels, patients: Names) -> Calibrator:
    """Fit a calibrator of the given method; "auto" is resolved by `choose` on the same cases."""
    if method == AUTO:
        method = choose(logits, labels, patients, patients).method
    return fit(method, logits, labels)


def cross_fitted(
    method: str, logits: Floats, labels: Labels, *, folds: Names, patients: Names
) -> tuple[Floats, dict[str, Calibrator]]:
    """Calibrate each fold with a calibrator fitted on all other folds, so that no case is used in its own calibration.

    The method "auto" is resolved for each fold without that fold.

    Parameters
    ----------
    method : str
        One of `calibrator.METHODS`, "none", or "auto".
    logits : (n, K)
    labels : (n,) int or (n, K) float
        As in `fitting.fit`.
    folds, patients : (n,)

    Returns
    -------
    probabilities : (n, K)
    calibrators : dict
        Fold to the calibrator applied to it.

    Raises
    ------
    Unsuitable
        If the method does not suit the task or the cases outside a fold.
    ValueError
        If there are fewer than two folds, or a patient is in two folds.
    """
    _refuse_shared(folds, patients)
    probabilities, calibrators = np.empty(logits.shape), {}
    for fold in sorted(set(folds.tolist())):
        evaluated = folds == fold
        try:
            calibrators[fold] = fitted(method, logits[~evaluated], labels[~evaluated], patients[~evaluated])
        except Unsuitable as error:
            raise Unsuitable(f"without fold {fold}: {error}") from error
        probabilities[evaluated] = calibrators[fold].apply(logits[evaluated])
    return probabilities, calibrators


def _refuse_shared(folds: Names, patients: Names) -> None:
    if len(set(folds.tolist())) < 2:
        raise ValueError("cross-fitting needs at least two folds")
    pairs = pd.DataFrame({"patient": patients, "fold": folds}).drop_duplicates()
    shared = sorted(pairs.loc[pairs["patient"].duplicated(), "patient"].unique())
    if shared:
        named = ", ".join(shared[:5])
        raise ValueError(
            f"cross-fitting needs each patient in one fold, but {len(shared)} are in several, e.g. {named}"
        )


def _folds_of(groups: Names, labels: Labels) -> Names:
    """Use up to `MOST_FOLDS` groups as folds; assign more groups to folds with similar label frequencies."""
    if len(set(groups.tolist())) < 2:
        raise ValueError("choosing a calibration method needs at least two patients or folds")
    if len(set(groups.tolist())) <= MOST_FOLDS:
        return groups
    given = np.column_stack([labels == 0, labels == 1]) if labels.ndim == 2 else np.eye(labels.max() + 1)[labels] == 1
    return assign_evenly(groups.tolist(), given, INNER_FOLDS, seed=0).astype(np.str_)


def _weighed(kept: str, differences: Floats, counts: Floats, patients: Names) -> tuple[dict[str, Any], bool]:
    """Compare a method with the best so far by differences of log-loss (n,); also say if it is better."""
    if not kept:
        return {"why": "the fewest parameters"}, True
    mean, error = _mean_and_error(differences, counts, patients)
    better = mean < -error
    why = f"log-loss {'' if better else 'not '}below that of {kept} by more than one standard error"
    return {"difference": mean, "standard_error": error, "why": why}, better


def _mean_and_error(sums: Floats, counts: Floats, patients: Names) -> tuple[float, float]:
    """Compute the mean of values that are summed over each case, and its standard error with patients as the unit.

    (Cochran 1977, "Sampling Techniques", equation 2.39: a ratio of two sums over patients.)
    """
    mean = sums.sum() / counts.sum()
    names, patient = np.unique(patients, return_inverse=True)
    residuals = np.bincount(patient, weights=sums - mean * counts)
    spread = np.sqrt((residuals**2).sum() * len(names) / (len(names) - 1))
    return float(mean), float(spread / counts.sum())
