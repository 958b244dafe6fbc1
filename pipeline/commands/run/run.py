"""Run the stages up to a target, then summarise the run."""

import argparse

from pipeline import paths, runtime
from pipeline.commands.run import TARGETS
from pipeline.commands.side_by_side import train_changed
from pipeline.params import load
from pipeline.stages.report.run_summary import run_summary


def run(arguments: argparse.Namespace) -> None:
    """Train the folds side by side, let DVC run the rest, and print metrics, gates and the places of the results."""
    params, stages = load(), TARGETS[arguments.target]
    bundle = paths.bundle(params.release.name)
    if "finetune" in stages:
        train_changed(params.split.folds, stages)
    target = [] if arguments.target == "all" else [stages[-1]]
    runtime.dvc("repro", *target, to_terminal=True, stages=stages)
    print()
    if arguments.target == "data":
        print(f"{paths.SPLIT} is up to date; next: `medadapt run metrics`")
    else:
        print("\n".join(run_summary(bundle)))
