"""Read the predictions of the folds together with the columns that the evaluation needs."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.errors import UserError
from pipeline.imaging.labels import targets_of
from pipeline.metrics.baseline import baselines_of, prediction_from_columns
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.evaluation import TaskSpec, label_numbers, logits_of, mean_of_tables
from pipeline.metrics.guards import MissingCases, refuse_missing_cases
from pipeline.metrics.subgroups import groups_of
from pipeline.paths import Role
from pipeline.schema import FINAL

Floats = NDArray[np.float64]

MASK_FEATURES = "features of the mask"  # the baseline of shape and values inside


def scored(fold: str, role: Role) -> pd.DataFrame:
    """Read a fold's logits for the cases of a role, subgroups and baseline columns; each case occurs once."""
    digest = hash_of_model(fold)
    cases, assigned = paths.read_table(paths.predictions(fold)), paths.read_table(paths.split(fold))
    cases = cases[cases["role"] == role]
    try:
        refuse_missing_cases(assigned.loc[assigned["role"] == role, "case"], cases["case"])
    except MissingCases as error:
        raise UserError(f"{paths.predictions(fold)}: {error}; run finetune --fold {fold} again") from error
    if not np.isfinite(logits_of(cases)).all():
        raise UserError(f"{paths.predictions(fold)} has logits that are not finite; check {paths.history(fold)}")
    return cases.assign(fold=fold, model_sha256=digest).merge(columns_of_cases(), on="case", how="left")


def hash_of_model(fold: str) -> str:
    """Hash the weights of a fold (SHA-256), by which `release` recognises the evaluated model."""
    with paths.model(fold).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def columns_of_cases() -> pd.DataFrame:
    """Read the subgroups and the baseline columns of every case.

    Features of masks that the model takes make no subgroups but for the size: there are too many of them.
    """
    cases = paths.read_table(paths.CASES)[["case", "site"]].merge(paths.read_table(paths.COLUMNS), on="case")
    taken = {one["name"] for one in paths.read_json(paths.INPUTS)} & set(mask_features_in(cases))
    grouped = cases.drop(columns=[f"column_{name}" for name in taken - {"mask_volume", "mask_area"}])
    groups = pd.DataFrame(groups_of(grouped), index=cases.index).add_prefix("group_")
    return cases.drop(columns="site").join(groups)


def mask_features_in(cases: pd.DataFrame) -> list[str]:
    """Name the columns with features of masks; none if the cohort has no masks."""
    return [column for column in cases if column.startswith("mask_")]


def mean_of_members(members: Sequence[str], role: Role) -> pd.DataFrame:
    """Average the logits of the members on the same cases; those of a single member are not changed."""
    try:
        return mean_of_tables([scored(member, role) for member in members])
    except MissingCases as error:
        raise UserError(f"{paths.FOLDS}: {', '.join(members)} scored different cases: {error}; run finetune") from error


def name_of_test_set() -> str:
    """Give the scope of the test set: "external" if none of its sites has development cases, else "test"."""
    return "external" if paths.read_json(paths.SPLIT_SUMMARY)["external"] else "test"


def labels_of(cases: pd.DataFrame, spec: TaskSpec) -> Labels:
    """Read the column `label`: class numbers (n,), or of a multilabel task 1, 0 and NaN for not known (n, C)."""
    if spec.task == "multilabel":
        return targets_of(cases["label"].tolist(), spec.classes, "multilabel").astype(np.float64)
    return label_numbers(cases, spec.classes)


def without_images(fold: str, evaluated: pd.DataFrame, spec: TaskSpec, names: Sequence[str]) -> dict[str, Floats]:
    """Predict the cases that a fold evaluates without a network: from the site, declared columns, features of masks."""
    cases = paths.read_table(paths.split(fold))
    training = cases[cases["role"].isin([Role.TRAIN, Role.VALIDATION])].merge(columns_of_cases(), on="case")
    labels, n_classes = labels_of(training, spec), len(spec.classes)
    names = [name for name in names if f"column_{name}" in training]  # without optional columns that the cohort lacks
    baselines = baselines_of(names) | ({MASK_FEATURES: of_masks} if (of_masks := mask_features_in(training)) else {})
    return {
        name: prediction_from_columns(training[columns], labels, evaluated[columns], n_classes)
        for name, columns in baselines.items()
    }


def predictions_of_candidates(fold: str, role: Role, classes: list[str]) -> pd.DataFrame:
    """Read the logits of each candidate method for the cases that a fold evaluates, with patient and label."""
    cases, logits = paths.read_table(paths.split(fold)), paths.read_table(paths.search(fold))
    cases, logits = (table[table["role"] == role] for table in (cases, logits))
    if set(cases["case"]) != set(logits["case"]):
        raise UserError(f"{paths.search(fold)} has other cases than {paths.split(fold)}; run adapt --fold {fold} again")
    known = cases[["case", "patient"]].assign(fold=fold, label=label_numbers(cases, classes))
    return known.merge(logits.drop(columns="role"), on="case")


def unlabelled_images(fold: str, site: str) -> str:
    """Say whether adaptation saw unlabelled images of a site: "seen", "unseen", or "none there"."""
    if site in paths.read_json(paths.adaptation(fold))["unlabelled_sites"]:
        return "seen"
    cases = paths.read_table(paths.split(FINAL))
    return "unseen" if ((cases["role"] == Role.UNLABELLED) & (cases["site"] == site)).any() else "none there"
