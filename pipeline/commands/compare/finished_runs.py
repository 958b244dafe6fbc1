"""Read finished runs from this workspace, another folder, a git revision or a DVC experiment."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.commands.numbers import refuse_cohort
from pipeline.errors import UserError
from pipeline.lock_file import CURE, LOCK, stages_in
from pipeline.metrics.comparison import Predictions
from pipeline.metrics.evaluation import TaskSpec
from pipeline.params import PARAMS_FILE
from pipeline.spreadsheets import restored
from pipeline.stages.calibrate.patients import PATIENTS
from pipeline.stages.calibrate.predictions import labels_of
from pipeline.yaml_files import parsed_yaml

WORKSPACE = "workspace"
EVALUATED_STAGES = ("cohort", "preprocess", "split", "adapt", "finetune", "calibrate")  # the metrics depend on these


class Source(NamedTuple):
    """Where a run is stored: its displayed name, a function that reads its files, and the cure for a missing file."""

    name: str
    read: Callable[[Path], bytes]
    cure: str


@dataclass(frozen=True)
class Run:
    """The predictions of a run, with its parameters and the hashes of its code and cohort.

    Attributes
    ----------
    sets : mapping of Predictions
        By scope: "internal", "external", ..., and the per-patient set of each.
    params : mapping
        Parameters by dotted key, as they were when the stages ran.
    inputs : mapping of str
        Hashes of code and cohort by path; empty if the run has no dvc.lock.
    """

    name: str
    task_spec: TaskSpec
    simulated: bool
    sets: Mapping[str, Predictions]
    params: Mapping[str, Any]
    inputs: Mapping[str, str]


def read_run(name: str) -> Run:
    """Read the predictions, parameters and input hashes of a run.

    Raises
    ------
    UserError
        If the run does not exist, has not been evaluated, or its files are not in DVC's cache.
    """
    source = source_of(name)
    try:
        facts = json.loads(source.read(paths.COHORT_FACTS))
        text = BytesIO(source.read(paths.PREDICTIONS))
        table = restored(pd.read_csv(text, dtype={"label": str}, keep_default_na=False))
    except FileNotFoundError as error:
        raise UserError(f"{source.name}: {error}; {source.cure}") from error
    except (ValueError, RecursionError) as error:
        files = f"{paths.COHORT_FACTS} or {paths.PREDICTIONS}"
        raise UserError(f"{source.name}: {files} is damaged ({type(error).__name__}); {source.cure}") from error
    task_spec = task_of(facts, source)
    refuse_cohort(facts, "compare")
    refuse_other_classes(table, task_spec, source)
    sets = {
        str(scope): predictions_of(str(scope), rows, task_spec) for scope, rows in table.groupby("scope", sort=False)
    }
    known, inputs = params_and_inputs(source.read)
    return Run(
        name=source.name, task_spec=task_spec, simulated=facts["simulated"], sets=sets, params=known, inputs=inputs
    )


def task_of(facts: Any, source: Source) -> TaskSpec:
    """Read the task from data/cohort/cohort.json; raise UserError if it is of another kind."""
    try:
        return TaskSpec(facts["classes"], facts["task"])
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"{source.name}: {paths.COHORT_FACTS} names no classes or task; {source.cure}") from error


def refuse_other_classes(table: pd.DataFrame, task_spec: TaskSpec, source: Source) -> None:
    """Refuse predictions of another cohort than that which was read last, as between two stages of a run.

    Raises
    ------
    UserError
        If the numbers of classes differ.
    """
    if lacking := [name for name in ("scope", "case", "patient", "fold", "label") if name not in table]:
        raise UserError(f"{source.name}: {paths.PREDICTIONS} lacks the columns {', '.join(lacking)}; {source.cure}")
    predicted = sum(str(column).startswith("probability_") for column in table)
    if predicted != len(task_spec.classes):
        raise UserError(
            f"{source.name}: {paths.PREDICTIONS} holds {predicted} classes, but {paths.COHORT_FACTS} has "
            f"{len(task_spec.classes)}, so they are of two cohorts; {source.cure}"
        )


def source_of(name: str) -> Source:
    """Resolve the name of a run. The displayed name of a folder is its last part: pages must not show paths."""
    folder = Path("." if name == WORKSPACE else name)
    if name == WORKSPACE or (folder / paths.DATA).is_dir():
        shown = WORKSPACE if folder.resolve() == Path.cwd() else folder.resolve().name
        return Source(shown, lambda file: (folder / file).read_bytes(), "run `dvc repro calibrate` there")
    cure = f"try `dvc fetch --all-commits`, else `dvc exp apply {name}` (or `git checkout`) and `dvc repro`"
    return Source(name, revision_reader(name), cure)


def revision_reader(revision: str) -> Callable[[Path], bytes]:
    """Return a reader of the files of a revision; files that DVC tracks come from its cache or remote."""
    from dvc.api import DVCFileSystem  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]

    try:
        files = DVCFileSystem(rev=revision)
        files.ls("/", detail=False)  # the first access resolves the revision
    except DvcException as error:
        raise UserError(
            f"'{revision}' is neither a folder with {paths.DATA}/ nor a revision or experiment of this repository "
            f"(`git log`, `dvc exp list`): {error}"
        ) from error
    return lambda file: bytes(files.read_bytes(file.as_posix()))


def predictions_of(scope: str, rows: pd.DataFrame, task_spec: TaskSpec) -> Predictions:
    """Select the calibrated predictions of one scope; the unit of a per-patient scope is the patient."""
    units = rows["patient" if scope.endswith(PATIENTS) else "case"].to_numpy(dtype=str)
    columns = [f"probability_{number}" for number in range(len(task_spec.classes))]
    probabilities = rows[columns].to_numpy(dtype=np.float64)
    patients, folds = (rows[name].to_numpy(dtype=str) for name in ("patient", "fold"))
    fitted = "calibrator" in rows and rows["calibrator"].nunique() > 1
    return Predictions(units, patients, labels_of(rows, task_spec), probabilities, folds=folds, cross_fitted=fitted)


def params_and_inputs(read: Callable[[Path], bytes]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read parameters and hashes from dvc.lock, because params.yaml may have been edited after the run.

    Without a dvc.lock, the parameters come from params.yaml and there are no hashes.
    """
    try:
        stages = stages_in(read(LOCK))
    except FileNotFoundError:
        return flat(parsed_yaml(read(PARAMS_FILE), PARAMS_FILE) or {}), {}
    except ValueError as error:
        raise UserError(f"{LOCK} of a run that is compared cannot be read: {error}; {CURE}") from error
    evaluated = [entry for name, entry in stages.items() if name.partition("@")[0] in EVALUATED_STAGES]
    known: dict[str, Any] = {}
    for entry in evaluated:
        known |= flat(entry.get("params", {}).get(PARAMS_FILE.name, {}))
    deps = {dep["path"]: dep.get("md5", "") for entry in evaluated for dep in entry.get("deps", [])}
    given = known.get("cohort.path")  # other inputs are outputs of earlier stages
    return known, {path: md5 for path, md5 in deps.items() if path.startswith("pipeline/") or path == given}


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Flatten nested sections to values by dotted key."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) and value else {f"{before}{name}": value}
    return found
