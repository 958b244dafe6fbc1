"""Show the metrics of this run."""

import argparse
import json

from pipeline import paths
from pipeline.params import load
from pipeline.stages.report.run_summary import SHORT, Sets, evaluated_sets, metric_lines, run_summary, short_for

METRICS = {"auc": SHORT["auc"], "log_loss": SHORT["log_loss"], "brier": "Brier score"}
METRICS |= {"calibration_slope": SHORT["calibration_slope"]}


def run(arguments: argparse.Namespace) -> None:
    """Print a table of the evaluated sets and folds, or all their metrics as JSON."""
    sets = evaluated_sets() | metrics_of_folds()
    if arguments.json:
        print(json.dumps(sets, indent=2))
        return
    ending = run_summary(paths.bundle(load().release.name))
    ending = [line for line in ending if line.startswith(("test set:", "status:", "bundle:", "page:"))]
    shown = short_for(sets)
    print("\n".join([*metric_lines(sets, METRICS if shown is SHORT else shown), *ending]))


def metrics_of_folds() -> Sets:
    """Read the calibrated metrics of each fold, left-out site and repetition, folds by their number."""
    files = sorted(
        paths.METRICS_OF_FOLDS.glob("*.json"), key=lambda file: (not file.stem.isdigit(), file.stem.zfill(3))
    )
    return {f"fold {file.stem}": paths.read_json(file) for file in files}
