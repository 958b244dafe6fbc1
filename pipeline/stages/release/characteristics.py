"""Count patients and cases of development and test set by class, site and subgroup."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.imaging.labels import targets_of
from pipeline.metrics.evaluation import TaskSpec
from pipeline.paths import Role
from pipeline.stages.calibrate.predictions import columns_of_cases

DEVELOPMENT = "development"
SIDES = dict.fromkeys((Role.TRAIN, Role.VALIDATION, Role.HELD_OUT, Role.CALIBRATION), DEVELOPMENT)
SIDES |= {Role.TEST: "test", Role.UNLABELLED: "unlabelled"}


def characteristics(member: str, labelling: TaskSpec) -> list[dict[str, Any]]:
    """Count patients and cases of each class and group, as they were assigned to a member of the released model.

    Returns
    -------
    list of dict
        `who`, and `sides`: of development, test and unlabelled, as far as there are any, (patients, cases).
    """
    cases = paths.read_table(paths.split(member)).merge(columns_of_cases(), on="case")
    cases = cases[cases["role"].isin(SIDES)].reset_index(drop=True)
    side = cases["role"].map(SIDES)
    sides = [name for name in dict.fromkeys(SIDES.values()) if (side == name).any()]
    return [
        {"who": who, "sides": {name: counted(cases[among & (side == name).to_numpy()]) for name in sides}}
        for who, among in everybody(cases, labelling).items()
    ]


def everybody(cases: pd.DataFrame, labelling: TaskSpec) -> dict[str, NDArray[np.bool_]]:
    """Tell (n,) who belongs to each class and group; a case without a label belongs to no class."""
    task: Any = labelling.task
    targets = targets_of(cases["label"].tolist(), labelling.classes, task)
    found = {f"class {name}": targets[:, number] == 1 for number, name in enumerate(labelling.classes)}
    for column in cases.filter(regex="^group_"):
        for group in sorted(cases[column].unique()):
            found[f"{column.removeprefix('group_')} {group}"] = (cases[column] == group).to_numpy()
    return found


def counted(cases: pd.DataFrame) -> tuple[int, int]:
    """Count patients and cases."""
    return cases["patient"].nunique(), len(cases)
