"""Count patients and cases of development and test set by class, site and subgroup."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.imaging.labels import REGRESSION, SURVIVAL, targets_of
from pipeline.metrics.evaluation import TaskSpec
from pipeline.paths import Role
from pipeline.stages.calibrate.predictions import columns_of_cases

DEVELOPMENT = "development"
SIDES = dict.fromkeys((Role.TRAIN, Role.VALIDATION, Role.HELD_OUT, Role.CALIBRATION), DEVELOPMENT)
SIDES |= {Role.TEST: "test", Role.UNLABELLED: "unlabelled"}


def characteristics(member: str, task_spec: TaskSpec) -> list[dict[str, Any]]:
    """Count patients and cases of each class and group in the split of a member of the released model.

    Returns
    -------
    list of dict
        `who`, and `sides`: (patients, cases) of development, test and unlabelled, as far as there are any.
    """
    cases = paths.read_table(paths.split(member)).merge(columns_of_cases(), on="case")
    cases = cases[cases["role"].isin(SIDES)].reset_index(drop=True)
    side = cases["role"].map(SIDES)
    sides = [name for name in dict.fromkeys(SIDES.values()) if (side == name).any()]
    return [
        {"who": who, "sides": {name: counted(cases[among & (side == name).to_numpy()]) for name in sides}}
        for who, among in groups_of(cases, task_spec).items()
    ]


def groups_of(cases: pd.DataFrame, task_spec: TaskSpec) -> dict[str, NDArray[np.bool_]]:
    """Mark the cases (n,) of each class and group; a case without a label belongs to no class."""
    task: Any = task_spec.task
    targets = targets_of(cases["label"].tolist(), task_spec.classes, task)
    found = {f"class {name}": targets[:, number] == 1 for number, name in enumerate(task_spec.classes)}
    if task == REGRESSION:
        found = {"with a number": ~np.isnan(targets[:, 0])}
    if task == SURVIVAL:
        found = {"with the event": targets[:, 0] > 0, "censored": targets[:, 0] < 0}
    for column in cases.filter(regex="^group_"):
        for group in sorted(cases[column].unique()):
            found[f"{column.removeprefix('group_')} {group}"] = (cases[column] == group).to_numpy()
    return found


def counted(cases: pd.DataFrame) -> tuple[int, int]:
    """Count patients and cases."""
    return cases["patient"].nunique(), len(cases)
