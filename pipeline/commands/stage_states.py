"""Determine which stages are up to date, out of date or running; `status` and `plan` show it.

DVC determines which stages are out of date. DVC's lock file and the processes of this machine show which ones run; a
run on another machine is visible only by its outputs.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline import costs, paths
from pipeline.commands.running import Job, activity_of, being_written, processes_here, training_of
from pipeline.errors import UserError
from pipeline.lock_file import locked_stages
from pipeline.progress import duration

MOST_FILES = 500  # files of an output that are checked for the newest
MOST_NAMES = 3  # names in a list before "and N more"


@dataclass(frozen=True)
class Line:
    """The state of a stage, or of some of its folds.

    Attributes
    ----------
    stage : str
    folds : tuple of str
        Names of the folds; "" for a stage without folds.
    state : str
        A key of `STATES` in commands/status/run.py.
    why : str
        What has changed, or how far a run is.
    finished : float or None
        Seconds since 1970 when the newest output was written, if known.
    took : float or None
        Duration of the last run in seconds, if recorded.
    """

    stage: str
    folds: tuple[str, ...]
    state: str
    why: str
    finished: float | None
    took: float | None


def survey() -> list[Line]:
    """Determine the state of every stage of dvc.yaml, in the order of their dependencies.

    Raises
    ------
    UserError
        If this folder is no DVC project, or dvc.yaml or dvc.lock cannot be read.
    """
    locked_stages()
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    logging.getLogger("dvc").setLevel(logging.ERROR)  # no warnings about locks that a killed run left
    try:
        with Repo() as repo:
            graph = repo.index.graph
            stages = upstream_first([stage for stage in repo.index.stages if stage.name], graph)
            busy, processes = being_written(Path(repo.tmp_dir) / "rwlock"), processes_here()
            with dvc_lock(repo) as allowed:
                changes = {stage.name: changes_of(stage, busy) if allowed else None for stage in stages}
    except DvcException as error:
        raise UserError(f"dvc.yaml in this folder cannot be read: {error}") from error
    lines: dict[str, Line] = {}
    for stage in stages:
        before = [lines[one.name] for one in graph.successors(stage) if one.name in lines]
        lines[stage.name] = line_of(stage, changes[stage.name], busy=busy, processes=processes, before=before)
    return list(lines.values())


@contextmanager
def dvc_lock(repo: Any) -> Iterator[bool]:
    """Take DVC's lock for reading; yield False if another command holds it."""
    from dvc.lock import LockError  # type: ignore[import-untyped]

    try:
        repo.lock.lock()
    except LockError:
        yield False
        return
    try:
        yield True
    finally:
        repo.lock.unlock()


def upstream_first(stages: Iterable[Any], graph: Any) -> list[Any]:
    """Sort stages so that each one follows those whose outputs it reads."""
    found: dict[Any, None] = {}

    def visit(stage: Any) -> None:
        for before in graph.successors(stage):
            if before.name and before not in found:
                visit(before)
        found[stage] = None

    for stage in stages:
        if stage not in found:
            visit(stage)
    return list(found)


def changes_of(stage: Any, busy: set[str]) -> list[Any] | None:
    """Ask DVC what has changed in a stage; None while its files are being written."""
    from dvc.lock import LockError

    if writes(stage, busy):
        return None
    try:
        return list(stage.status().get(stage.addressing, []))
    except LockError:
        return None


def writes(stage: Any, busy: set[str]) -> bool:
    """Check whether outputs of a stage are being written."""
    return any(out.fs_path in busy for out in stage.outs)


def line_of(
    stage: Any, changes: list[Any] | None, *, busy: set[str], processes: Mapping[Job, float], before: Sequence[Line]
) -> Line:
    """Combine the information about a stage."""
    name, _, fold = stage.name.partition("@")
    began, training = processes.get((name, fold)), training_of(name, fold)
    finished = newest([*(Path(out.fs_path) for out in stage.outs), paths.cost(name, fold)])
    if began or writes(stage, busy):
        since = f"for {duration(time.time() - began)}" if began else "DVC is writing its files"
        why = "; ".join(filter(None, [since, activity_of(name, fold) or training]))
        return Line(name, (fold,), "running", why, finished=None, took=None)
    ever = any(out.hash_info for out in stage.outs)
    state, why = state_of(ever, changes, training, before)
    return Line(name, (fold,), state, why, finished=finished, took=costs.last_run(name, fold).get("seconds"))


def state_of(ever: bool, changes: list[Any] | None, training: str, before: Sequence[Line]) -> tuple[str, str]:
    """Determine the state of a stage that is not running, with the reason."""
    if training:
        return "stopped", training
    if not ever:
        return "never run", ""
    if changes is None:
        return "not known", ""
    gone = [name for name, how in changed(changes, "changed outs").items() if how == "deleted"]
    if gone:
        return "missing", shortened(gone)
    if changes:
        return "stale", describe_changes(changes)
    unsettled = [f"{one.stage}{'@' if any(one.folds) else ''}{one.folds[0]}" for one in before if one.state != "done"]
    return ("behind", f"after {shortened(unsettled)}") if unsettled else ("done", "")


def changed(changes: list[Any], kind: str) -> dict[str, Any]:
    """Collect the entries of a kind from the `dvc status` of a stage."""
    return {name: how for one in changes if isinstance(one, dict) for name, how in one.get(kind, {}).items()}


def describe_changes(changes: list[Any]) -> str:
    """Describe what has changed: by kind, then the messages of DVC."""
    deps, outs = changed(changes, "changed deps"), changed(changes, "changed outs")
    params = [key for how in deps.values() if isinstance(how, dict) for key in how]
    files = [name for name, how in deps.items() if not isinstance(how, dict)]
    code = [Path(name).name for name in files if name.startswith("pipeline/")]
    others = [name for name in files if not name.startswith("pipeline/")]
    kinds = {"parameters": params, "code": code, "inputs": others, "outputs": list(outs)}
    described = [f"{kind}: {shortened(names)}" for kind, names in kinds.items() if names]
    return "; ".join([*described, *(one for one in changes if isinstance(one, str))])


def shortened(names: Sequence[str]) -> str:
    """Join the first names."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def newest(outs: Iterable[Path]) -> float | None:
    """Find when the newest file of the outputs was written."""
    times = [file.stat().st_mtime for out in outs for file in files_of(out)]
    return max(times, default=None)


def files_of(out: Path) -> list[Path]:
    """List a file, or the first files of a folder and its subfolders."""
    if not out.is_dir():
        return [out] if out.exists() else []
    walk = (Path(folder) / name for folder, _, names in os.walk(out) for name in names)
    return list(islice(walk, MOST_FILES))
