"""Count the patients of each class in each role of each fold, before anything is trained."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline.stages.split.partition import Marks, answers, patients_with

LEAST = 2  # patients of a class: one to train on, one to validate on
TOLERANCE = 1.5  # factor by which the share of validation patients may differ from split.validation_fraction
LEARNS = ("train", "validation")


def problems_of_training(fold: str, cases: pd.DataFrame, held_out: Marks) -> Iterator[str]:
    """Yield the classes, or answers to a label, of which a fold leaves fewer than two patients to learn from.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `side`, and those of `answers`.
    held_out : (n,) bool array
    """
    development = (cases["side"] == "development").to_numpy()
    left = development & ~cases["patient"].isin(cases.loc[held_out, "patient"]).to_numpy()
    given = answers(cases)
    for name, count in patients_with(cases[left], given[left]).items():
        if count < LEAST and given.loc[development, name].any():
            yield _too_few(name, fold, count)


def problems_of_roles(fold: str, cases: pd.DataFrame, roles: Sequence[str]) -> Iterator[str]:
    """Yield the classes, or answers to a label, of which no patient is left to train on."""
    given, role = answers(cases), np.array(roles)
    learns = np.isin(role, LEARNS)
    for name, count in patients_with(cases[role == "train"], given[role == "train"]).items():
        if not count and given.loc[learns, name].any():
            yield _too_few(name, fold, int(cases.loc[learns & given[name].to_numpy(), "patient"].nunique()))


def _too_few(name: str, fold: str, count: int) -> str:
    return (
        f"fold {fold} leaves {count} patient(s) of {name} for training and validation, which need {LEAST} or more; add "
        "patients of it, leave it out of cohort.classes, or hold out less (split.n_folds, split.test)"
    )


def remark_on_validation(fold: str, cases: pd.DataFrame, roles: Sequence[str], fraction: float) -> str:
    """Say why the share of validation patients differs from `split.validation_fraction`; "" if it does not much."""
    role, given = np.array(roles), answers(cases)
    learns = np.isin(role, LEARNS)
    share = cases.loc[role == "validation", "patient"].nunique() / max(cases.loc[learns, "patient"].nunique(), 1)
    if fraction / TOLERANCE <= share <= fraction * TOLERANCE:
        return ""
    counts = {name: count for name, count in patients_with(cases[learns], given[learns]).items() if count}
    rarest = min(counts, key=lambda name: counts[name])
    return (
        f"fold {fold}: {share:.0%} of the training patients validate, not {fraction:.0%} (split.validation_fraction), "
        f"because each class is validated, and {rarest} has {counts[rarest]} patients there"
    )


def counted_roles(cases: pd.DataFrame, roles_of_fold: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Count patients and cases: fold, class, role, patients, cases; one row each where there are any."""
    given, rows = answers(cases), []
    for fold, roles in roles_of_fold.items():
        for role in sorted(set(roles)):
            marked = np.array(roles) == role
            for name in given:
                some = cases[marked & given[name].to_numpy()]
                rows.append((fold, name, role, some["patient"].nunique(), len(some)))
    table = pd.DataFrame(rows, columns=["fold", "class", "role", "patients", "cases"])
    return table[table["cases"] > 0]
