"""Who is trained on and who is evaluated: patient-grouped folds, a test set, and the gate between them."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.metrics.grouped_folds import assign_evenly

TARGET = "target_"  # begins the columns of a multilabel cohort: 1 label there, 0 not there, NaN not known
Marks = NDArray[np.bool_]
Numbers = NDArray[np.int64]


class Leak(ValueError):
    """A patient who stands in more than one of development, calibration and the test set.

    Attributes
    ----------
    patients : list of str
        Their pseudonyms.
    """

    def __init__(self, patients: list[str]) -> None:
        super().__init__(
            f"{len(patients)} patients stand in more than one of development, calibration and the test set"
        )
        self.patients = patients


def reserved_by_hash(patients: Sequence[str], fraction: float, seed: int) -> list[bool]:
    """Choose the test patients by a hash of each one's pseudonym, so that nobody moves when the cohort grows.

    Parameters
    ----------
    patients : sequence of str
        Pseudonyms; they are keyed hashes themselves.
    fraction : float
        Expected share of patients in the test set, in (0, 1).
    seed : int
        Another seed locks other patients.
    """
    draws = [hashlib.sha256(f"{seed}/test/{patient}".encode()).digest() for patient in patients]
    return [int.from_bytes(draw[:8], "big") / 2**64 < fraction for draw in draws]


def refuse_leaks(cases: pd.DataFrame, allowed: Sequence[str]) -> list[str]:
    """Make sure that no patient is at once in two of development, calibration and test, unless acknowledged by name.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient` and `side`; of the labelled cases.
    allowed : sequence of str
        Patients whose presence on several sides the user has acknowledged.

    Returns
    -------
    list of str
        Those of them who stand on both sides of the train/test boundary; every metric of the test set is stamped with
        them.

    Raises
    ------
    Leak
        If others stand on several sides.
    """
    sides = cases.groupby("patient")["side"].agg(set)
    several = sides[sides.map(len) > 1]
    open_leaks = [patient for patient in several.index if patient not in allowed]
    if open_leaks:
        raise Leak(open_leaks)
    return [str(patient) for patient, of_patient in several.items() if "test" in of_patient]


def grouped_folds(cases: pd.DataFrame, n_folds: int, seed: int) -> Numbers:
    """Assign development cases to folds: no patient in two, classes spread evenly.

    By `StratifiedGroupKFold`, or, where a case may have several labels, by `assign_evenly`. A further case can move
    all others; what stays then is who is test and what is drawn by name.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient` and `label`, every label given, or a `target_<name>` for each label of a multilabel cohort.

    Returns
    -------
    (n,) int array
        The fold that holds out each case.

    Raises
    ------
    ValueError
        If a class has fewer patients than there are folds, or a label has so few with it or known to be without.
    """
    refuse_rare_classes(cases, n_folds)
    if has_several_labels(cases):
        return assign_evenly(cases["patient"].tolist(), answers(cases).to_numpy(), n_folds, seed)
    folds = np.full(len(cases), -1)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(cases, cases["label"], cases["patient"])):
        folds[held_out] = number
    return folds


def has_several_labels(cases: pd.DataFrame) -> bool:
    """Tell a multilabel cohort by its columns."""
    return any(str(column).startswith(TARGET) for column in cases)


def answers(cases: pd.DataFrame) -> pd.DataFrame:
    """Mark which answers each case gives: its class, or that a label is known to be there, or to be absent.

    Returns
    -------
    (n, n_answers) pandas.DataFrame of bool
        The columns are named as messages name them.
    """
    if has_several_labels(cases):
        marks = {
            f"label '{column.removeprefix(TARGET)}' (known {word})": cases[column] == value
            for column in cases
            if column.startswith(TARGET)
            for value, word in ((1, "present"), (0, "absent"))
        }
    else:
        marks = {f"class '{label}'": cases["label"] == label for label in sorted(set(cases["label"]) - {""})}
    return pd.DataFrame(marks, index=cases.index)


def patients_with(cases: pd.DataFrame, given: pd.DataFrame) -> dict[str, int]:
    """Count the patients who give each of the `answers`."""
    return {str(name): int(cases.loc[given[name], "patient"].nunique()) for name in given}


def refuse_rare_classes(cases: pd.DataFrame, n_folds: int) -> None:
    """Make sure that every class, or either answer to every label, has at least as many patients as folds."""
    for name, count in patients_with(cases, answers(cases)).items():
        if count < n_folds:
            raise ValueError(f"{name} has {count} patient(s), fewer than split.n_folds = {n_folds}")


def early_stopping_set(cases: pd.DataFrame, fraction: float, seed: int) -> Marks:
    """Set patients of the training cases aside for early stopping and every other choice made in training.

    Parameters
    ----------
    cases : pandas.DataFrame
        The training cases, columns as `grouped_folds` takes them.
    fraction : float
        Share set aside, in (0, 1); rounded to one part of 2 to 20.

    Returns
    -------
    (n,) bool array
    """
    given = answers(cases)
    parts = int(np.clip(round(1 / fraction), 2, 20))
    fewest = min(filter(None, patients_with(cases, given).values()), default=2)
    parts = min(parts, max(fewest, 2))
    if has_several_labels(cases):
        return np.asarray(assign_evenly(cases["patient"].tolist(), given.to_numpy(), parts, seed) == 0)
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    _, validation = next(iter(splitter.split(cases, cases["label"], cases["patient"])))
    return np.isin(np.arange(len(cases)), validation)


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
        If no development case is of that site, if two sites are called so, or if of some class, or with or without
        some label, fewer than two patients are left to train and to stop on. The message says which names exist.
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
    others = development & ~cases["patient"].isin(cases.loc[held_out, "patient"]).to_numpy()
    if not others.any():
        raise ValueError(f"no other site is left to train on; the sites of the development cases are called {known}")
    given = answers(cases)
    left = patients_with(cases[others], given[others])
    for answer, count in left.items():
        if count < 2 and given.loc[development, answer].any():
            raise ValueError(
                f"{count} patient(s) of {answer} are left to train and to stop on, and it takes "
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
    cases: pd.DataFrame, held_out: Marks, validation_fraction: float, seed: int, unseen: Marks | None = None
) -> list[str]:
    """Give each case its role in one training.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `label`, `side` ("development", "test", "unlabelled", "calibration").
    held_out : (n,) bool array
        The development cases that are held out; none of them for the final model.
    validation_fraction : float
        Share of the training patients set aside for early stopping, in (0, 1).
    seed : int
        Of that choice.
    unseen : (n,) bool array, optional
        Cases whose images may not be seen without a label either.

    Returns
    -------
    list of str
        `train`, `validation`, `held_out`, `test`, `calibration`, `unlabelled`, or `excluded`: unlabelled cases that are
        unseen or whose patient is evaluated or calibrates in this training, development cases of a patient who is held
        out at another site, and calibration cases of a patient who is developed on or test as well.
    """
    roles = cases["side"].replace("development", "train").to_numpy(dtype=object)
    roles[held_out] = "held_out"

    def exclude(some: str, *others: str) -> None:
        patients = cases.loc[np.isin(roles, others), "patient"]
        roles[(roles == some) & cases["patient"].isin(patients).to_numpy()] = "excluded"

    exclude("calibration", "train", "held_out", "test")
    exclude("train", "held_out")
    exclude("unlabelled", "held_out", "test", "calibration")
    if unseen is not None:
        roles[(roles == "unlabelled") & unseen] = "excluded"
    training = roles == "train"
    validation = early_stopping_set(cases[training], validation_fraction, seed)
    roles[np.flatnonzero(training)[validation]] = "validation"
    return [str(role) for role in roles]
