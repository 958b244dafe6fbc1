"""Write the folder evidence/ of a bundle: metrics, tables and the split, without anything that names a patient."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.stages.release.gating import Assessment

Config = dict[str, Any]

FOLDER = Path("evidence")
TABLES = (
    "decision_curve",
    "operating_points",
    "subgroups",
    "conformal",
    "calibration",
    "calibration_curve",
    "abstention",
)
OF_COLUMNS = ("inputs", "increment")  # of a model that takes columns besides the image
ROLES = ["case", "patient", "role"]  # pseudonyms; labels are not needed to see that no patient has two roles


def write_evidence(bundle: Path, members: Sequence[str], assessment: Assessment, settings: Config) -> None:
    """Write metrics with intervals, tables, the split in pseudonyms, gates, key facts, and how the model was trained.

    Parameters
    ----------
    bundle : Path
    members : sequence of str
    assessment : Assessment
    settings : dict
        Sections of params.yaml that made the model, without paths of the machine that ran it.
    """
    folder = bundle / FOLDER
    paths.write_json(assessment.metrics, folder / "metrics.json")
    paths.write_json([asdict(gate) for gate in assessment.gates], folder / "gates.json")
    paths.write_json([asdict(fact) for fact in assessment.facts], folder / "key_facts.json")
    paths.write_json(settings, folder / "settings.json")
    for name in members:
        paths.write_table(paths.read_table(paths.split(name))[ROLES], folder / "split" / f"{name}.csv")
    for name in (*TABLES, *(OF_COLUMNS if paths.assessed("inputs").exists() else ())):
        if paths.assessed(name).exists():  # a table that does not apply to a task is not written
            shutil.copyfile(paths.assessed(name), folder / f"{name}.csv")
