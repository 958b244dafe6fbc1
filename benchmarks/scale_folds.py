"""Compare folds that are balanced over all patients with folds given by a hash: balance, moves when patients are added.

    OMP_NUM_THREADS=1 python benchmarks/scale_folds.py --patients 2500 10000 20000

Three simulated cohorts each: one to four cases a patient, classes of 70, 29 and 1 %, sites of 50, 30, 15 and 5 %.
Columns are the largest deviation of a share of cases from a fifth, and the shares of patients in another fold, and of
cases that change between training and validation, after 1 % more patients.
"""

import argparse
import time

import numpy as np
import pandas as pd

from pipeline.stages.split import partition

WAYS = {"balanced": lambda _: False, "hashed": lambda _: True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[2500, 10000])
    for patients in parser.parse_args().patients:
        before, after = (cohorts(patients), cohorts(patients + patients // 100))
        for way, is_large in WAYS.items():
            partition.is_large = is_large
            rows = [measure(*pair, seed) for seed, pair in enumerate(zip(before, after, strict=True))]
            print(patients, way, pd.DataFrame(rows).mean().round(4).to_dict(), flush=True)


def cohorts(patients: int) -> list[pd.DataFrame]:
    """Simulate three cohorts; a larger one begins with the cases of a smaller one."""
    return [cohort(patients, seed) for seed in range(3)]


def cohort(patients: int, seed: int) -> pd.DataFrame:
    draws = np.random.default_rng(seed).random((patients, 3))
    table = pd.DataFrame({"patient": [f"{seed}-{number}" for number in range(patients)], "side": "development"})
    table["label"] = np.select([draws[:, 0] < 0.01, draws[:, 0] < 0.3], ["1 %", "29 %"], "70 %")
    table["site"] = np.array(["site 50 %", "site 30 %", "site 15 %", "site 5 %"])[
        np.searchsorted([0.5, 0.8, 0.95], draws[:, 1])
    ]
    return table.loc[table.index.repeat(1 + (4 * draws[:, 2]).astype(int))].reset_index(drop=True)


def measure(before: pd.DataFrame, after: pd.DataFrame, seed: int) -> dict[str, float]:
    start = time.process_time()
    folds = partition.grouped_folds(before, 5, seed)
    seconds = time.process_time() - start
    counts = pd.concat([pd.crosstab(folds, before[column]) for column in ("label", "site")], axis=1)
    counts["all"] = np.bincount(folds)
    then = partition.grouped_folds(after, 5, seed)[: len(before)]
    validates, later = (partition.early_stopping_set(cases, 0.2, seed)[: len(before)] for cases in (before, after))
    moves = {"moved": before["patient"][folds != then].nunique() / before["patient"].nunique()}
    moves["validation"] = float(np.mean(validates != later))
    return (counts / counts.mean() - 1).abs().max().to_dict() | moves | {"seconds": seconds}


if __name__ == "__main__":
    main()
