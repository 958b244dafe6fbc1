"""Who is trained on and who is judged: patient-grouped folds, a locked test set, and the gate between them."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold


class Leak(ValueError):
    """A patient who stands on both sides of the locked door.

    Attributes
    ----------
    patients : list of str
        Their pseudonyms.
    """

    def __init__(self, patients: list[str]) -> None:
        super().__init__(f"{len(patients)} patients stand in development and in the locked test set")
        self.patients = patients


def locked_by_hash(patients: Sequence[str], fraction: float, seed: int) -> list[bool]:
    """Choose the locked patients by a hash of each one's pseudonym, so that nobody moves when the cohort grows.

    Parameters
    ----------
    patients : sequence of str
        Pseudonyms; they are keyed hashes themselves.
    fraction : float
        Expected share of patients in the locked set, in (0, 1).
    seed : int
        Another seed locks other patients.
    """
    draws = [hashlib.sha256(f"{seed}/locked/{patient}".encode()).digest() for patient in patients]
    return [int.from_bytes(draw[:8], "big") / 2**64 < fraction for draw in draws]


def refuse_leaks(cases: pd.DataFrame, locked: Sequence[bool], allowed: Sequence[str]) -> list[str]:
    """Make sure that no patient has cases on both sides of the locked door, unless acknowledged by name.

    Parameters
    ----------
    cases : pandas.DataFrame
        With the column `patient`.
    locked : sequence of bool
        One per case.
    allowed : sequence of str
        Patients whose presence on both sides the user has acknowledged.

    Returns
    -------
    list of str
        The acknowledged patients who do stand on both sides; every figure of the locked set is stamped with them.

    Raises
    ------
    Leak
        If others do.
    """
    inside = np.asarray(locked, dtype=bool)
    both = sorted(set(cases.loc[inside, "patient"]) & set(cases.loc[~inside, "patient"]))
    open_leaks = [patient for patient in both if patient not in allowed]
    if open_leaks:
        raise Leak(open_leaks)
    return both


def grouped_folds(cases: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    """Deal development cases to folds: no patient in two, classes spread evenly (`StratifiedGroupKFold`).

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `label`; every label given.

    Returns
    -------
    (n,) int array
        The fold that holds out each case.

    Raises
    ------
    ValueError
        If a class has fewer patients than there are folds.
    """
    refuse_rare_classes(cases, n_folds)
    folds = np.full(len(cases), -1)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(cases, cases["label"], cases["patient"])):
        folds[held_out] = number
    return folds


def refuse_rare_classes(cases: pd.DataFrame, n_folds: int) -> None:
    """Make sure that every class has at least as many patients as there are folds."""
    counts = cases.groupby("label")["patient"].nunique()
    for label, count in counts.items():
        if count < n_folds:
            raise ValueError(f"class '{label}' has {count} patient(s), fewer than split.n_folds = {n_folds}")


def inner_stopping_set(cases: pd.DataFrame, fraction: float, seed: int) -> np.ndarray:
    """Set patients of the training cases aside for early stopping and every other choice made in training.

    Parameters
    ----------
    cases : pandas.DataFrame
        The training cases, columns `patient`, `label`.
    fraction : float
        Share set aside, in (0, 1); rounded to one part of 2 to 20.

    Returns
    -------
    (n,) bool array
    """
    parts = int(np.clip(round(1 / fraction), 2, 20))
    fewest = int(cases.groupby("label")["patient"].nunique().min())
    parts = min(parts, max(fewest, 2))
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    _, inner = next(iter(splitter.split(cases, cases["label"], cases["patient"])))
    return np.isin(np.arange(len(cases)), inner)


def roles_in_fold(
    cases: pd.DataFrame, fold_of_case: np.ndarray, fold: int | None, inner_fraction: float, seed: int
) -> list[str]:
    """Give each case its role in one training.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `label`, `side` ("development", "locked", "unlabelled", "calibration").
    fold_of_case : (n,) int array
        The fold that holds out each development case, -1 for the others.
    fold : int or None
        The fold to be held out; None for the final model, which holds out none.

    Returns
    -------
    list of str
        `train`, `inner`, `held_out`, `locked`, `unlabelled`, or `excluded` for an unlabelled case whose
        patient is judged in this training.
    """
    of_side = {"development": "train", "locked": "locked", "unlabelled": "unlabelled", "calibration": "excluded"}
    roles = cases["side"].map(of_side).to_numpy(dtype=object)
    if fold is not None:
        roles[fold_of_case == fold] = "held_out"
    judged = set(cases.loc[np.isin(roles, ["held_out", "locked"]), "patient"])
    roles[(roles == "unlabelled") & cases["patient"].isin(judged).to_numpy()] = "excluded"
    training = roles == "train"
    inner = inner_stopping_set(cases[training], inner_fraction, seed)
    roles[np.flatnonzero(training)[inner]] = "inner"
    return [str(role) for role in roles]
