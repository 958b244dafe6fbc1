"""Run stages in the current project, and read what they refuse."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle.layout import INFERENCE, METADATA

FOLDS = ("0", "1", "2", "final")


def run(*stages):
    for stage in stages:
        assert main(stage.split()) == 0, stage


def refusal(capsys, stage):
    capsys.readouterr()
    assert main(stage.split()) == 1
    message = capsys.readouterr().err
    assert re.search(r"^error: ", message, re.MULTILINE) and "Traceback" not in message
    return message


def computed(file, name="ill"):
    """Read what predict computed of a class, by scan, whether it answered or withheld it."""
    found = pd.read_csv(file).set_index("scan")
    return found[name].fillna(found[f"withheld_{name}"])


def assert_predicted_as_evaluated(bundle, listed):
    """Predict the scans of a list; those of the external site have the probabilities of the evaluation."""
    assert main(["predict", bundle, listed, "--out", "found.csv"]) == 0
    table = pd.read_csv(listed, dtype=str, keep_default_na=False).set_index("image")
    evaluated = paths.read_table(paths.PREDICTIONS)
    expected = sorted(evaluated.loc[evaluated["scope"] == "external", "probability_1"])
    outside = table[table["site"] == "outside"]
    assert len(outside) and sorted(computed("found.csv")[outside.index]) == pytest.approx(expected, abs=1e-5)


def by_monai(bundle, root, files):
    """Run the bundle by MONAI alone; the outputs by name of file."""
    (root / "scans").mkdir()
    for file in files:
        shutil.copy(file, root / "scans")
    configs = ["--config_file", str(INFERENCE), "--meta_file", str(METADATA), "--dataset_dir", str(root / "scans")]
    done = subprocess.run([sys.executable, "-m", "monai.bundle", "run", *configs], cwd=bundle, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = csv.reader((Path(bundle) / "eval" / "predictions.csv").open())
    return {row[0]: [float(value) for value in row[1:]] for row in rows}


def until_calibrated(folds=FOLDS):
    run("cohort", "preprocess", "split")
    for fold in folds:
        run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    run("calibrate")


def run_all(folds=FOLDS):
    until_calibrated(folds)
    run("evidence", "release", "report")
