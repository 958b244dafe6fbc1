"""A finished run, wherever it stands: in this workspace, in another folder, or in a revision that DVC knows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from pipeline import paths
from pipeline.errors import UserError
from pipeline.metrics.comparison import Predictions
from pipeline.metrics.evaluation import TaskSpec
from pipeline.params import PARAMS_FILE
from pipeline.stages.calibrate.patients import PATIENTS
from pipeline.stages.calibrate.predictions import labels_of

LOCK = Path("dvc.lock")
WORKSPACE = "workspace"
LEADING = ("cohort", "preprocess", "split", "adapt", "finetune", "calibrate")  # what the metrics come from


class Source(NamedTuple):
    """Where a run lies: its name as it is shown, what reads its files, and what helps where one is not there."""

    name: str
    read: Callable[[Path], bytes]
    cure: str


@dataclass(frozen=True)
class Run:
    """What a run prediction, and what it went by.

    Attributes
    ----------
    sets : mapping of Predictions
        By scope: "internal", "external", ..., and the same of patients.
    params : mapping
        By dotted key, as the stages had them when they ran.
    inputs : mapping of str
        Hashes of code and cohort, by path; empty where the run has no dvc.lock.
    """

    name: str
    labelling: TaskSpec
    simulated: bool
    sets: Mapping[str, Predictions]
    params: Mapping[str, Any]
    inputs: Mapping[str, str]


def read_run(name: str) -> Run:
    """Read the predictions of a run and what it went by.

    Raises
    ------
    UserError
        If there is no such run, or it has not been evaluated, or its files are not in DVC's cache.
    """
    source = source_of(name)
    try:
        facts = json.loads(source.read(paths.COHORT_FACTS))
        table = pd.read_csv(BytesIO(source.read(paths.PREDICTIONS)), dtype={"label": str}, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError(f"{source.name}: {error}; {source.cure}") from error
    labelling = TaskSpec(facts["classes"], facts["task"])
    sets = {
        str(scope): predictions_of(str(scope), rows, labelling) for scope, rows in table.groupby("scope", sort=False)
    }
    return Run(source.name, labelling, facts["simulated"], sets, *went_by(source.read))


def source_of(name: str) -> Source:
    """Find out what is meant by the name of a run; of a folder, no page shall tell where it lies."""
    folder = Path("." if name == WORKSPACE else name)
    if name == WORKSPACE or (folder / paths.DATA).is_dir():
        shown = WORKSPACE if folder.resolve() == Path.cwd() else folder.resolve().name
        return Source(shown, lambda file: (folder / file).read_bytes(), "run `dvc repro calibrate` there")
    cure = f"`dvc fetch --all-commits` may bring it, else `dvc exp apply {name}` (or check it out) and `dvc repro`"
    return Source(name, revision_reader(name), cure)


def revision_reader(revision: str) -> Callable[[Path], bytes]:
    """Read files of a git revision or experiment, those that DVC tracks from its cache or remote."""
    from dvc.api import DVCFileSystem  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]

    try:
        files = DVCFileSystem(rev=revision)
        files.ls("/", detail=False)  # only now the revision is looked up
    except DvcException as error:
        raise UserError(
            f"'{revision}' is neither a folder with {paths.DATA}/ nor a revision or experiment of this repository "
            f"(`git log`, `dvc exp list`): {error}"
        ) from error
    return lambda file: bytes(files.read_bytes(file.as_posix()))


def predictions_of(scope: str, rows: pd.DataFrame, labelling: TaskSpec) -> Predictions:
    """Take the calibrated predictions of a set of cases; patients that are evaluated as one are named by themselves."""
    units = rows["patient" if scope.endswith(PATIENTS) else "case"].to_numpy(dtype=str)
    columns = [f"probability_{number}" for number in range(len(labelling.classes))]
    probabilities = rows[columns].to_numpy(dtype=np.float64)
    return Predictions(units, rows["patient"].to_numpy(dtype=str), labels_of(rows, labelling), probabilities)


def went_by(read: Callable[[Path], bytes]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read parameters and hashes from dvc.lock, since params.yaml may have been edited after the run.

    Where there is no dvc.lock, params.yaml is all there is.
    """
    try:
        stages = yaml.load(read(LOCK), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506 - both are safe
    except FileNotFoundError:
        return flat(yaml.safe_load(read(PARAMS_FILE))), {}
    leading = [entry for name, entry in stages.items() if name.partition("@")[0] in LEADING]
    known: dict[str, Any] = {}
    for entry in leading:
        known |= flat(entry.get("params", {}).get(PARAMS_FILE.name, {}))
    deps = {dep["path"]: dep.get("md5", "") for entry in leading for dep in entry.get("deps", [])}
    given = known.get("cohort.path")  # what lies between is written by the stages themselves
    return known, {path: md5 for path, md5 in deps.items() if path.startswith("pipeline/") or path == given}


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Name every value of nested sections by its dotted key."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) and value else {f"{before}{name}": value}
    return found
