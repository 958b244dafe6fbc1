"""Every adaptation method on a cohort whose external site is the test set, over several seeds, beside no adaptation.

    python benchmarks/adaptation.py demo --into /tmp/demo
    python benchmarks/adaptation.py wbc --into /tmp/wbc --methods none adabn coral oracle --seeds 0 1 2

Trains the final model only (`adapt --fold final`, `finetune --fold final`) and evaluates it on the external site,
without calibration. `oracle` is trained with labels of that site, see `cohorts`; what a method has of its gain over
`none` in AUC is the gap that it closes. Rows are written to INTO/results.csv as they come, and what stands there is
not run again. A method that fails is named and passed over.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd
from cohorts import COHORTS, Cohort, describe
from evaluating import gather, print_differences, print_metrics
from trials import METHODS, ORACLE, Arrangement, run_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", choices=COHORTS)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    cohort = COHORTS[arguments.cohort]()
    methods = {name: METHODS[name] for name in arguments.methods}
    rows = run_all(arguments.into, partial(arrangements_of, cohort), methods, arguments.seeds)
    describe(arguments.into, cohort)
    runs = gather(rows)
    print_metrics(rows, runs)
    print()
    print_differences(runs, ["none", "adabn"], ORACLE)
    print_choices(rows)


def arrangements_of(cohort: Cohort, method: str) -> tuple[Arrangement, ...]:
    return (cohort.oracle,) if method == ORACLE else cohort.evaluated


def print_choices(rows: pd.DataFrame) -> None:
    """Say which method `auto` chose in each run."""
    runs = rows[rows["method"] == "auto"].drop_duplicates(["seed", "arrangement", "chosen"])
    if len(runs):
        chosen = [f"{run.chosen} (seed {run.seed}, {run.arrangement})" for run in runs.itertuples()]
        print(f"\n`auto` chose {', '.join(chosen)}.")


if __name__ == "__main__":
    main()
