"""Run the stages up to a target with `dvc repro`, then print the metrics, the gates and where the results are.

Targets: `data` ends with the split, `metrics` with the evaluated model, `model` with the released bundle; `all` (the
default) adds saliency maps and the report. For a sweep of parameters `metrics` is enough: it leaves out
evidence, explain, release and report, which take as long as the training. Stages that are up to date do not run.

Folds are trained in parallel, one on each GPU, else one on each core; `dvc repro` alone trains one after the other.
"""

import argparse

DATA = ("cohort", "preprocess", "split")
METRICS = (*DATA, "adapt", "finetune", "calibrate")
MODEL = (*METRICS, "evidence", "release")  # a release tells whether adaptation harmed
TARGETS = {
    "data": DATA,
    "metrics": METRICS,
    "model": MODEL,
    "all": (*METRICS, "evidence", "explain", "release", "report"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "target",
        nargs="?",
        choices=tuple(TARGETS),
        default="all",
        help="where to stop (default: all)",
    )
