"""Partition the cohort: reserve the test set, assign patients to folds, refuse patients that appear in both."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.metrics.grouped_folds import assign_evenly
from pipeline.stages.split.hashed_folds import assign_by_hash, is_large
from pipeline.stages.split.quantiles import EVENT, NUMBER, quantiles_of

TARGET = "target_"  # prefix of the label columns of a multilabel cohort: 1 present, 0 absent, NaN not known
Marks = NDArray[np.bool_]
Numbers = NDArray[np.int64]


class Leak(ValueError):
    """Patients appear in more than one of development, calibration and the test set.

    Attributes
    ----------
    patients : list of str
        Their pseudonyms.
    """

    def __init__(self, patients: list[str]) -> None:
        super().__init__(
            f"{len(patients)} patient(s) appear in more than one of development, calibration and the test set"
        )
        self.patients = patients


def reserved_by_hash(patients: Sequence[str], fraction: float, seed: int) -> list[bool]:
    """Choose the test patients by a hash of their pseudonyms, so that nobody moves when the cohort grows.

    Parameters
    ----------
    patients : sequence of str
        Pseudonyms, which are keyed hashes themselves.
    fraction : float
        Expected share of patients in the test set, in (0, 1).
    seed : int
        Another seed reserves other patients.
    """
    draws = [hashlib.sha256(f"{seed}/locked/{patient}".encode()).digest() for patient in patients]
    return [int.from_bytes(draw[:8], "big") / 2**64 < fraction for draw in draws]


def refuse_leaks(cases: pd.DataFrame, allowed: Sequence[str]) -> list[str]:
    """Refuse patients who appear in two of development, calibration and test, unless they are acknowledged by name.

    Parameters
    ----------
    cases : pandas.DataFrame
        The labelled cases, with columns `patient` and `side`.
    allowed : sequence of str
        Patients whose presence on several sides the user has acknowledged.

    Returns
    -------
    list of str
        The acknowledged patients on both sides of the train/test boundary; they are stamped on every test metric.

    Raises
    ------
    Leak
        If any other patient appears on several sides.
    """
    once = cases[["patient", "side"]].drop_duplicates()
    several = once[once["patient"].duplicated(keep=False)].groupby("patient")["side"].agg(set)
    open_leaks = [patient for patient in several.index if patient not in allowed]
    if open_leaks:
        raise Leak(open_leaks)
    return [str(patient) for patient, of_patient in several.items() if "test" in of_patient]


def grouped_folds(cases: pd.DataFrame, n_folds: int, seed: int) -> Numbers:
    """Assign development cases to folds, each patient to one fold, with the classes spread evenly.

    In a large cohort patients stay in their folds when others are added (`assign_by_hash`). In a small one, a new case
    can move all others: `StratifiedGroupKFold` balances them, or `assign_evenly` where a case may have several labels.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient` and `label`, none empty; one column `target_<name>` per label of a multilabel cohort; the
        column `number` of a regression, which is stratified by quantiles, or of survival, with the column `event`.

    Returns
    -------
    (n,) int array
        The fold that holds out each case.

    Raises
    ------
    ValueError
        If a class, or one answer (present, absent) to a label, has fewer patients than there are folds.
    """
    for name, count in rare_classes(cases, n_folds).items():
        raise ValueError(f"{name} has {count} patient(s), fewer than split.n_folds = {n_folds}")
    return _parts_of(cases, n_folds, seed)


def _parts_of(cases: pd.DataFrame, parts: int, seed: int) -> Numbers:
    patients = cases["patient"].tolist()
    if is_large(patients):
        return assign_by_hash(patients, strata(cases).to_numpy(), parts, seed)
    if has_several_labels(cases):
        return assign_evenly(patients, answers(cases).to_numpy(), parts, seed)
    part_of_case = np.full(len(cases), -1)
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    stratum = quantiles_of(cases, parts) if NUMBER in cases else cases["label"]
    for number, (_, held_out) in enumerate(splitter.split(cases, stratum, cases["patient"])):
        part_of_case[held_out] = number
    return part_of_case


def has_several_labels(cases: pd.DataFrame) -> bool:
    """Tell whether this is a multilabel cohort, by its columns."""
    return any(str(column).startswith(TARGET) for column in cases)


def answers(cases: pd.DataFrame) -> pd.DataFrame:
    """Mark which answers each case gives: its class, or for each label that it is known to be present or absent.

    Returns
    -------
    (n, n_answers) pandas.DataFrame of bool
        Column names are written as in error messages.
    """
    if NUMBER in cases:
        known = {"the event": cases[EVENT]} if EVENT in cases else {}
        return pd.DataFrame({"labelled cases": cases["label"] != ""} | known, index=cases.index)
    if has_several_labels(cases):
        marks = {
            f"label '{column.removeprefix(TARGET)}' (known {word})": cases[column] == value
            for column in cases
            if column.startswith(TARGET)
            for value, word in ((1, "present"), (0, "absent"))
        }
    else:
        marks = {class_name(label): cases["label"] == label for label in sorted(set(cases["label"].unique()) - {""})}
    return pd.DataFrame(marks, index=cases.index)


def strata(cases: pd.DataFrame) -> pd.DataFrame:
    """Mark the strata that are spread evenly over folds: the answers, or quantiles of a number or of times."""
    if NUMBER not in cases:
        return answers(cases)
    stratum = quantiles_of(cases, 1)
    return pd.DataFrame({name: stratum == name for name in sorted(set(stratum) - {""})}, index=cases.index)


def class_name(label: str) -> str:
    """Write the name of a class as in error messages."""
    return f"class '{label}'"


def patients_with(cases: pd.DataFrame, given: pd.DataFrame) -> dict[str, int]:
    """Count the patients who give each of the `answers`."""
    return {str(name): int(cases.loc[given[name], "patient"].nunique()) for name in given}


def rare_classes(cases: pd.DataFrame, n_folds: int, classes: Sequence[str] = ()) -> dict[str, int]:
    """Count the patients of each class, or answer to a label, that has fewer patients than there are folds.

    Parameters
    ----------
    cases : pandas.DataFrame
        The development cases, with the columns of `grouped_folds`.
    n_folds : int
    classes : sequence of str
        Classes of the cohort; one without a case here counts as rare. Not needed for a multilabel cohort.
    """
    absent = {} if has_several_labels(cases) else {class_name(label): 0 for label in classes}
    counts = absent | patients_with(cases, answers(cases))
    return {name: count for name, count in counts.items() if count < n_folds}


def early_stopping_set(cases: pd.DataFrame, fraction: float, seed: int) -> Marks:
    """Choose the validation cases, by patient, for early stopping and every other choice made in training.

    Parameters
    ----------
    cases : pandas.DataFrame
        The training cases, with the columns of `grouped_folds`.
    fraction : float
        Share of the training patients, in (0, 1); rounded to one of 2 to 20 equal parts.

    Returns
    -------
    (n,) bool array
    """
    parts = int(np.clip(round(1 / fraction), 2, 20))
    fewest = min(filter(None, patients_with(cases, answers(cases)).values()), default=2)
    parts = min(parts, max(fewest, 2))
    return np.asarray(_parts_of(cases, parts, seed) == 0)


def cases_of_site(cases: pd.DataFrame, name: str) -> Marks:
    """Mark the development cases of one site, which are held out while the other sites train.

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
        If no development case is of that site, if two sites share that name, or if fewer than two patients of some
        class, or some answer to a label, remain for training and validation. The message lists the known names.
    """
    development = (cases["side"] == "development").to_numpy()
    sites = sorted(set(cases.loc[development, "site"]) - {""})
    called = [site for site in sites if name_of_site(site) == name]
    known = ", ".join(sorted({name_of_site(site) for site in sites})) or "none, because the cohort names no site"
    if not called:
        raise ValueError(f"no development case is of a site called '{name}'; the sites are: {known}")
    if len(called) > 1:
        raise ValueError(f"the sites {' and '.join(called)} are both written '{name}' in file names; rename one")
    held_out: Marks = development & (cases["site"] == called[0]).to_numpy()
    others = development & ~cases["patient"].isin(cases.loc[held_out, "patient"]).to_numpy()
    if not others.any():
        raise ValueError(f"no other site is left to train on; the sites of the development cases are: {known}")
    given = answers(cases)
    left = patients_with(cases[others], given[others])
    for answer, count in left.items():
        if count < 2 and given.loc[development, answer].any():
            raise ValueError(
                f"{count} patient(s) of {answer} remain for training and validation, which need two; "
                f"the sites of the development cases are: {known}"
            )
    return held_out


def name_of_site(site: str) -> str:
    """Write a site's name with characters that are safe in the name of a fold and of a file.

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
        The held-out development cases; all False for the final model.
    validation_fraction : float
        Share of the training patients used for validation, in (0, 1).
    seed : int
        Seed of the choice of validation patients.
    unseen : (n,) bool array, optional
        Cases whose images may not be used without their label either.

    Returns
    -------
    list of str
        `train`, `validation`, `held_out`, `test`, `calibration`, `unlabelled` or `excluded`. Excluded are unlabelled
        cases that are unseen, or whose patient is held out, tested or used for calibration; development cases of a
        patient who is held out at another site; and calibration cases of a patient who trains, is held out or tested.
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
