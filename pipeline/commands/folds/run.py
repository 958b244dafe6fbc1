"""Train folds in parallel, on this machine or through SLURM; DVC records the results as after `dvc repro`.

Each random seed depends on its purpose and its fold only, so that the order of the folds has no effect. The number of
threads changes the last digits of sums, as under `dvc repro`; OMP_NUM_THREADS, if set, is kept.
"""

import argparse
from collections.abc import Callable, Sequence

from pipeline.commands.fold_jobs import OUTPUT, Outcome, print_outcomes
from pipeline.commands.folds.slurm import slurm
from pipeline.commands.side_by_side import dummy, local
from pipeline.errors import UserError
from pipeline.params import load

LAUNCHERS: dict[str, Callable[[Sequence[str], Sequence[str], int | None], list[Outcome]]] = {
    "local": local,
    "slurm": slurm,
    "dummy": dummy,
}


def run(arguments: argparse.Namespace) -> None:
    """Train the folds and print a row for each.

    Raises
    ------
    UserError
        If a fold or --jobs is invalid, or a fold failed.
    """
    known = load().split.folds
    unknown = [fold for fold in arguments.folds if fold not in known]
    if unknown:
        raise UserError(f"split.folds has no fold {', '.join(unknown)}; choose from {', '.join(known)}")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs is {arguments.jobs}; choose a number from 1 on")
    folds = list(dict.fromkeys(arguments.folds)) or list(known)
    stages = [stage for stage in OUTPUT if stage in arguments.stages]
    print_outcomes(LAUNCHERS[arguments.launcher](folds, stages, arguments.jobs))
