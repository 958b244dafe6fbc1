"""status: of every stage and fold, whether it is done, running, stale or was never run, since when and how long.

DVC tells what is stale, by the files as they are; its lock file and the processes of this machine tell what runs. What
runs on another machine shows only by what it leaves behind. Nothing is computed.
"""

import argparse
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.commands.status.running import Job, being_written, duration, processes_here, training_of
from pipeline.errors import UserError

STATES = {
    "done": "what it wrote is of these parameters, code and files",
    "running": "a process works on it now",
    "behind": "done for the files that lie here, but a stage before it is to run again",
    "stale": "parameters, code or files have changed since; `dvc repro` runs it again",
    "missing": "it was done, but its outputs are gone: it failed, was stopped, or `dvc pull` has not brought them",
    "stopped": "a training left off here, and no process of this machine goes on with it; the next run will",
    "never run": "it was never done here",
    "not known": "another command of DVC is writing the files that it reads",
}
SCREEN = 40  # lines; beyond, folds in one state share a line
LOOKED_AT = 500  # files of an output, at most, to find the newest
NAMED = 3


@dataclass(frozen=True)
class Line:
    """What is known of a stage, or of a fold of it: seconds are since 1970, or None where nobody noted them."""

    stage: str
    folds: tuple[str, ...]
    state: str
    why: str
    finished: float | None
    took: float | None


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each stage and fold, and what the words mean that occur."""
    lines = survey()
    rows = [cells_of(line) for line in (lines if len(lines) <= SCREEN else joined(lines))]
    table = [("stage", "fold", "state", "finished", "took", ""), *rows]
    widths = [max(map(len, column)) for column in list(zip(*table, strict=True))[:-1]]
    for row in table:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())
    print()
    for state in dict.fromkeys(line.state for line in lines):
        print(f"{state}: {STATES[state]}")
    print("finished: when the newest output was written here, by a run, `dvc pull` or `dvc checkout`")


def survey() -> list[Line]:
    """Look at every stage of dvc.yaml, each behind those that it goes on from.

    Raises
    ------
    UserError
        If this is no project of DVC, or dvc.yaml cannot be read.
    """
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    logging.getLogger("dvc").setLevel(logging.ERROR)  # it would warn of locks that a killed run left
    try:
        with Repo() as repo:
            graph = repo.index.graph
            stages = upstream_first([stage for stage in repo.index.stages if stage.name], graph)
            busy, processes = being_written(Path(repo.tmp_dir) / "rwlock"), processes_here()
            with test(repo) as allowed:
                changes = {stage.name: changes_of(stage, busy) if allowed else None for stage in stages}
    except DvcException as error:
        raise UserError(f"dvc.yaml cannot be read here: {error}") from error
    lines: dict[str, Line] = {}
    for stage in stages:
        before = [lines[one.name] for one in graph.successors(stage) if one.name in lines]
        lines[stage.name] = line_of(stage, changes[stage.name], busy, processes, before)
    return list(lines.values())


@contextmanager
def test(repo: Any) -> Iterator[bool]:
    """Take DVC's lock to look at files; False where another command keeps it."""
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
    """Put every stage behind those whose outputs it reads."""
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
    """Ask DVC what has changed of a stage; None where its files are being written."""
    from dvc.lock import LockError

    if writes(stage, busy):
        return None
    try:
        return list(stage.status().get(stage.addressing, []))
    except LockError:
        return None


def writes(stage: Any, busy: set[str]) -> bool:
    """Tell whether outputs of a stage are being written."""
    return any(out.fs_path in busy for out in stage.outs)


def line_of(
    stage: Any, changes: list[Any] | None, busy: set[str], processes: Mapping[Job, float], before: Sequence[Line]
) -> Line:
    """Put together what is known of a stage."""
    name, _, fold = stage.name.partition("@")
    began, training = processes.get((name, fold)), training_of(name, fold)
    record = paths.cost(name, fold)
    finished = newest([*(Path(out.fs_path) for out in stage.outs), record])
    if began or writes(stage, busy):
        since = f"for {duration(time.time() - began)}" if began else "DVC is at its files"
        return Line(name, (fold,), "running", "; ".join(filter(None, [since, training])), None, None)
    ever = any(out.hash_info for out in stage.outs)
    state, why = state_of(ever, changes, training, before)
    return Line(name, (fold,), state, why, finished, seconds_of(record))


def state_of(ever: bool, changes: list[Any] | None, training: str, before: Sequence[Line]) -> tuple[str, str]:
    """Choose the word for a stage that does not run, and say why."""
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
        return "stale", words_of(changes)
    unsettled = [f"{one.stage}{'@' if any(one.folds) else ''}{one.folds[0]}" for one in before if one.state != "done"]
    return ("behind", f"after {shortened(unsettled)}") if unsettled else ("done", "")


def changed(changes: list[Any], kind: str) -> dict[str, Any]:
    """Collect the entries of a kind from what `dvc status` says of a stage."""
    return {name: how for one in changes if isinstance(one, dict) for name, how in one.get(kind, {}).items()}


def words_of(changes: list[Any]) -> str:
    """Say in a few words what has changed: by kind, then what DVC says in words of its own."""
    deps, outs = changed(changes, "changed deps"), changed(changes, "changed outs")
    params = [key for how in deps.values() if isinstance(how, dict) for key in how]
    files = [name for name, how in deps.items() if not isinstance(how, dict)]
    code = [Path(name).name for name in files if name.startswith("pipeline/")]
    others = [name for name in files if not name.startswith("pipeline/")]
    kinds = {"parameters": params, "code": code, "inputs": others, "outputs": list(outs)}
    told = [f"{kind}: {shortened(names)}" for kind, names in kinds.items() if names]
    return "; ".join([*told, *(one for one in changes if isinstance(one, str))])


def shortened(names: Sequence[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def seconds_of(record: Path) -> float | None:
    """Read the seconds that the last run took, where they were noted."""
    return float(paths.read_json(record)["seconds"]) if record.exists() else None


def newest(outs: Iterable[Path]) -> float | None:
    """Find when the newest file of some outputs was written."""
    times = [file.stat().st_mtime for out in outs for file in files_of(out)]
    return max(times, default=None)


def files_of(out: Path) -> list[Path]:
    """List a file, or the first ones of a folder, as far down as they lie."""
    if not out.is_dir():
        return [out] if out.exists() else []
    walk = (Path(folder) / name for folder, _, names in os.walk(out) for name in names)
    return list(islice(walk, LOOKED_AT))


def joined(lines: Sequence[Line]) -> list[Line]:
    """Put the folds of a stage that are in one state for one reason on one line, with the seconds of all."""
    found = []
    for (stage, state, why), some in groupby(lines, key=lambda line: (line.stage, line.state, line.why)):
        alike = list(some)
        folds = tuple(fold for line in alike for fold in line.folds)
        times = [line.finished for line in alike if line.finished is not None]
        took = [line.took for line in alike if line.took is not None]
        found.append(Line(stage, folds, state, why, max(times, default=None), sum(took) if took else None))
    return found


def cells_of(line: Line) -> tuple[str, ...]:
    """Write a line as the cells of a row."""
    finished = time.strftime("%Y-%m-%d %H:%M", time.localtime(line.finished)) if line.finished else ""
    return line.stage, " ".join(line.folds), line.state, finished, duration(line.took), line.why
