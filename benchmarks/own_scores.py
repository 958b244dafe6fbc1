"""Whether `predict` gives every case that the released model evaluated its own score again, to the bit.

    cd RUN && python benchmarks/own_scores.py        # RUN: a finished run, its scans and its key folder still there

Of a refitted model these are the cases of the test set (and unlabelled ones are not evaluated). What `finetune` wrote
of them goes through the calibrator that `calibrate` wrote; `predict` reads the pack and the original scans.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.metrics.calibrators.calibrator import calibrator_from
from pipeline.metrics.evaluation import logits_of
from pipeline.params import load
from pipeline.stages.cohort.originals import original_files


def computed(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Fill in the probabilities of answers that were withheld."""
    return table.assign(**{name: table[name].fillna(table[f"withheld_{name}"]) for name in classes})


def main() -> None:
    params, classes = load(), paths.read_json(paths.COHORT_FACTS)["classes"]
    calibrated = paths.read_json(paths.CALIBRATOR)
    [member] = calibrated["members"]
    cases = pd.read_csv(paths.predictions(member), keep_default_na=False)
    own = calibrator_from(calibrated).apply(logits_of(cases))
    files = original_files(params.cohort)
    scans = [str(files[case].resolve()) for case in cases["case"]]
    with tempfile.TemporaryDirectory() as folder:
        table, found = Path(folder) / "scans.csv", Path(folder) / "found.csv"
        cases.assign(image=scans)[["case", "image", "site"]].to_csv(table, index=False)
        command = [sys.executable, "-m", "pipeline", "predict", paths.bundle(params.release.name), table]
        subprocess.run([*command, "--out", found], check=True, stdout=subprocess.DEVNULL)
        theirs = computed(pd.read_csv(found), classes).set_index("case").loc[cases["case"], classes]
    apart = np.abs(own - theirs.to_numpy()).max(axis=1)
    for role, group in pd.Series(apart).groupby(cases["role"].to_numpy()):
        print(f"{role}: {len(group)} cases, {(group == 0).sum()} to the bit, largest difference {group.max():.2g}")


if __name__ == "__main__":
    main()
