"""Who is trained on and who is judged: patient-grouped folds, a locked test set, and the gate between them."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

Marks = NDArray[np.bool_]


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


def cases_of_site(cases: pd.DataFrame, name: str) -> Marks:
    """Mark the development cases of one site, which are held out while all the others are trained on.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `site`, `label`, `side`.
    name : str
        The site as `name_of_site` writes it.

    Returns
    -------
    (n,) bool array

    Raises
    ------
    ValueError
        If no development case is of that site, if two sites are called so, or if of some class fewer than two
        patients are left to train and to stop on. The message says which names exist.
    """
    development = (cases["side"] == "development").to_numpy()
    sites = sorted(set(cases.loc[development, "site"]) - {""})
    called = [site for site in sites if name_of_site(site) == name]
    known = ", ".join(sorted({name_of_site(site) for site in sites})) or "nothing: the cohort names none"
    if not called:
        raise ValueError(f"no site of the development cases is called '{name}'; they are called {known}")
    if len(called) > 1:
        raise ValueError(f"the sites {' and '.join(called)} are both called '{name}' here; rename one of them")
    held_out: Marks = development & (cases["site"] == called[0]).to_numpy()
    others = cases[development & ~cases["patient"].isin(cases.loc[held_out, "patient"]).to_numpy()]
    if others.empty:
        raise ValueError(f"no other site is left to train on; the sites of the development cases are called {known}")
    left = others.groupby("label")["patient"].nunique()
    for label in sorted(set(cases.loc[development, "label"])):
        if left.get(label, 0) < 2:
            raise ValueError(
                f"{left.get(label, 0)} patient(s) of class '{label}' are left to train and to stop on, and it takes "
                f"two; the sites of the development cases are called {known}"
            )
    return held_out


def name_of_site(site: str) -> str:
    """Write a site so that it can stand in the name of a fold and of a file.

    >>> name_of_site("St. Mary's (3 T)")
    'St-Mary-s-3-T-'
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "-", site)


def roles_in_fold(
    cases: pd.DataFrame, held_out: Marks, inner_fraction: float, seed: int, unseen: Marks | None = None
) -> list[str]:
    """Give each case its role in one training.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `label`, `side` ("development", "locked", "unlabelled", "calibration").
    held_out : (n,) bool array
        The development cases that are held out; none of them for the final model.
    inner_fraction : float
        Share of the training patients set aside for early stopping, in (0, 1).
    seed : int
        Of that choice.
    unseen : (n,) bool array, optional
        Cases whose images may not be seen without a label either.

    Returns
    -------
    list of str
        `train`, `inner`, `held_out`, `locked`, `unlabelled`, or `excluded`: unlabelled cases that are unseen or
        whose patient is judged in this training, and development cases of a patient who is held out at another site.
    """
    of_side = {"development": "train", "locked": "locked", "unlabelled": "unlabelled", "calibration": "excluded"}
    roles = cases["side"].map(of_side).to_numpy(dtype=object)
    roles[held_out] = "held_out"
    held_out_patients, judged = (
        cases["patient"].isin(cases.loc[np.isin(roles, some), "patient"]).to_numpy()
        for some in (["held_out"], ["held_out", "locked"])
    )
    roles[(roles == "train") & held_out_patients] = "excluded"
    roles[(roles == "unlabelled") & judged] = "excluded"
    if unseen is not None:
        roles[(roles == "unlabelled") & unseen] = "excluded"
    training = roles == "train"
    inner = inner_stopping_set(cases[training], inner_fraction, seed)
    roles[np.flatnonzero(training)[inner]] = "inner"
    return [str(role) for role in roles]
