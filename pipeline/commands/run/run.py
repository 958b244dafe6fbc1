"""Run the stages up to a target, then summarise the run."""

import argparse

from pipeline import paths, runtime
from pipeline.commands.run import TARGETS
from pipeline.params import load
from pipeline.stages.report.run_summary import run_summary


def run(arguments: argparse.Namespace) -> None:
    """Call `dvc repro` and print the metrics, the gates and the places of page and bundle."""
    bundle = paths.bundle(load().release.name)
    stages = TARGETS[arguments.target]
    target = [] if arguments.target == "all" else [stages[-1]]
    runtime.dvc("repro", *target, to_terminal=True, stages=stages)
    print()
    if arguments.target == "data":
        print(f"{paths.SPLIT} is up to date; next: `medadapt run metrics`")
    else:
        print("\n".join(run_summary(bundle)))
