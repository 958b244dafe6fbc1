"""Show the state of each stage and fold."""

import argparse
import time
from collections.abc import Sequence
from itertools import groupby

from pipeline.commands.stage_states import Line, shortened, survey
from pipeline.progress import duration
from pipeline.stages.split.former_folds import former_outputs

STATES = {
    "done": "outputs match the present parameters, code and inputs",
    "running": "a process is working on it now",
    "behind": "up to date with its inputs, but an upstream stage must run again",
    "stale": "parameters, code or inputs have changed; `dvc repro` runs it again",
    "missing": "outputs were recorded but are gone: the run failed or was stopped, or `dvc pull` must fetch them",
    "stopped": "a training stopped here, and no process of this machine continues it; the next run will",
    "never run": "there is no record of a run",
    "not known": "another DVC command is writing the inputs",
}
SCREEN = 40  # lines; in a longer table, folds in the same state share a line


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each stage and fold, and the meaning of the states."""
    lines = survey()
    rows = [cells_of(line) for line in (lines if len(lines) <= SCREEN else joined(lines))]
    table = [("stage", "fold", "state", "finished", "took", ""), *rows]
    widths = [max(map(len, column)) for column in list(zip(*table, strict=True))[:-1]]
    for row in table:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())
    print()
    for state in dict.fromkeys(line.state for line in lines):
        print(f"{state}: {STATES[state]}")
    print("finished: when a run, `dvc pull` or `dvc checkout` wrote the newest output")
    if left := former_outputs({fold for line in lines for fold in line.folds}):
        names = shortened([str(path) for path in left])
        print(f"left from folds that split.folds no longer names: {names}; the stage split removes them when it runs")


def joined(lines: Sequence[Line]) -> list[Line]:
    """Merge the lines of folds with the same state and reason; durations are summed."""
    found = []
    for (stage, state, why), some in groupby(lines, key=lambda line: (line.stage, line.state, line.why)):
        alike = list(some)
        folds = tuple(fold for line in alike for fold in line.folds)
        times = [line.finished for line in alike if line.finished is not None]
        took = [line.took for line in alike if line.took is not None]
        total = sum(took) if took else None
        found.append(Line(stage, folds, state, why, finished=max(times, default=None), took=total))
    return found


def cells_of(line: Line) -> tuple[str, ...]:
    """Format a line as the cells of a row."""
    finished = time.strftime("%Y-%m-%d %H:%M", time.localtime(line.finished)) if line.finished else ""
    return line.stage, " ".join(line.folds), line.state, finished, duration(line.took), line.why
