"""What masks add: the whole scan, crop, channel, both, and features of the mask, paired by patient.

    python benchmarks/masks.py heads FOLDER --patients 40
    python benchmarks/masks.py cells FOLDER

`heads`: simulated, one site; half of the patients have a lesion. Masks mark the lesion, and in controls a healthy
place that is drawn as a lesion is, so that neither having a mask nor its shape tells the class. `cells`: the white
blood cells of wbc_two_source, dataset 1, in four classes, with the masks of their nuclei. A probe on frozen ImageNet
features, three folds. Each row is compared with the whole scan on the same held-out scans; intervals resample patients.
"""

import argparse
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from cohorts import CELLS, LEFT_OUT
from evaluating import print_row
from trials import DATA

from pipeline import paths, runtime
from pipeline.__main__ import main as medadapt
from pipeline.imaging.tables.cohort_table import write_cohort_table
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.discrimination import case_losses, ratio
from pipeline.metrics.evaluation import aucs_of
from pipeline.metrics.paired_tests import paired_difference
from pipeline.stages.cohort.simulation.recipe import Recipe
from pipeline.stages.cohort.simulation.scan import plan_scans, write_scan

ROOT = Path(__file__).parents[1]
FOLDS = ("0", "1", "2", "final")
ARMS = {
    "whole scan": {},
    "crop": {"mask": "crop"},
    "channel": {"mask": "channel"},
    "crop and channel": {"mask": "both"},
    "whole scan, features": {"inputs": ["mask_features"]},
    "crop, features": {"mask": "crop", "inputs": ["mask_features"]},
}
SITE = {"voxel_mm": [2.0, 2.0, 5.0], "orientation": "LPS", "tilt_deg": 4, "lesion_share": 0.5, "csf": 0.25, "grey": 0.7}
SITE |= {"white": 1.0, "scalp": 0.85, "bias": 0.15, "noise": 0.035, "full_scale": 1200, "dtype": "int16"}
REPLICATES = 1000
NUCLEUS = 255  # in the masks of the cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", choices=("heads", "cells"))
    parser.add_argument("folder", type=Path, help="an empty folder for the projects")
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--darkness", type=float, default=0.3, help="largest share of the signal that a lesion takes")
    asked = parser.parse_args()
    settings = write_heads(asked) if asked.cohort == "heads" else write_cells(asked.folder)
    predictions = {name: predicted(asked.folder, name, changes, settings) for name, changes in ARMS.items()}
    first = predictions["whole scan"]
    labels = first["label"].map(settings["cohort"]["classes"].index).to_numpy(dtype=np.int64)
    weights = cluster_weights(first["patient"].to_numpy(dtype=str), REPLICATES, 0)
    print_row("network sees", "AUC", "log-loss", "gain in AUC", "fall of the log-loss")
    print_row(*["---"] * 5)
    of_arm = {name: metrics_of(table.loc[first.index], labels) for name, table in predictions.items()}
    for name, (auc, loss) in of_arm.items():
        whole_auc, whole_loss = of_arm["whole scan"]
        gains = [shown(paired_difference(auc, whole_auc, weights, 0.95)), "reference"]
        gains[1] = shown(paired_difference(whole_loss, loss, weights, 0.95))
        own = [f"{float(metric(weights[:1])[0]):.3f}" for metric in (auc, loss)]
        print_row(name, *own, *(gains if name != "whole scan" else ["", ""]))


def write_heads(asked: argparse.Namespace) -> dict:
    """Write the scans and masks of all arms, with their cohort.csv; return the settings of the cohort."""
    recipe = {"seed": 5, "classes": ["control", "lesion"], "lesions": [1, 1], "radius_mm": [7.0, 11.0]}
    recipe |= {"darkness": [asked.darkness / 2, asked.darkness], "second_scan": 0.0, "age_years": [[50, 10], [50, 10]]}
    site = SITE | {"patients": {"development": asked.patients}}
    jobs = plan_scans(Recipe.model_validate(recipe | {"masks": "places", "sites": {"one": site}}))
    into = asked.folder / "scans"
    runtime.map_cases(partial(write_scan, folder=into), jobs, "simulate")
    write_cohort_table(pd.DataFrame([job.row for job in jobs]), into)
    cohort = {"public": False, "classes": ["control", "lesion"], "positive": "lesion"}
    return {"cohort": cohort, "preprocess": {"image_size": 96, "slices": 12}}


def write_cells(folder: Path) -> dict:
    """Write cohort.csv with images and masks of the cells; return the settings of the cohort."""
    source, into = DATA / "wbc_two_source", folder / "scans"
    labels = pd.read_csv(source / "Class Labels of Dataset 1.csv", names=["image", "label"], header=0)
    rows = []
    for number, label in labels.itertuples(index=False):
        name = CELLS[str(label)]
        if name == LEFT_OUT:
            continue
        for place in ("dataset1", "masks1"):
            (into / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / place / f"{number:03d}.png", into / place)
        rows.append((str(number), f"dataset1/{number:03d}.png", f"masks1/{number:03d}.png", name))
    pd.DataFrame(rows, columns=["case_id", "image", "mask", "label"]).to_csv(into / "cohort.csv", index=False)
    classes = [name for name in CELLS.values() if name != LEFT_OUT]
    cohort = {"public": True, "classes": classes, "positive": None, "mask_labels": [NUCLEUS]}
    return {"cohort": cohort, "preprocess": {"image_size": 128}}


def predicted(folder: Path, name: str, changes: dict, settings: dict) -> pd.DataFrame:
    """Run an arm in a project of its own; return the calibrated predictions of held-out scans."""
    project = folder / name.replace(", ", "_").replace(" ", "_")
    project.mkdir(parents=True)
    shutil.copy(ROOT / "dvc.yaml", project)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["cohort"] |= {"path": str((folder / "scans").resolve()), "inputs": changes.get("inputs", [])}
    values["cohort"] |= settings["cohort"]
    values["preprocess"] |= settings["preprocess"] | {"mask": changes.get("mask", "none")}
    values["split"] |= {"n_folds": 3, "folds": list(FOLDS), "test": "none", "test_sites": []}
    values["adapt"] |= {"method": "none"}
    values["finetune"] |= {"strategy": "probe", "views": 1}
    values["calibrate"] |= {"subgroups": [], "baseline": [], "n_bootstrap": 100, "test": "closed"}
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    before = Path.cwd()
    os.chdir(project)
    try:
        of_folds = [f"{stage} --fold {fold}" for fold in FOLDS for stage in ("adapt", "finetune")]
        for stage in ("cohort", "preprocess", "split", *of_folds, "calibrate"):
            if medadapt(stage.split()):
                raise SystemExit(f"{name}: {stage} failed")
        table = paths.read_table(paths.PREDICTIONS)
    finally:
        os.chdir(before)
    return table[table["scope"] == "internal"].set_index("case")


def metrics_of(table: pd.DataFrame, labels: np.ndarray) -> tuple:
    """Bind AUC and log-loss to the predictions of an arm."""
    columns = [f"probability_{number}" for number in range(1 + labels.max())]
    prediction = table[columns].to_numpy(dtype=np.float64)
    losses, known = case_losses(prediction, labels)
    return partial(aucs_of, prediction, labels), lambda weights: ratio(weights @ losses, weights @ known)


def shown(gain) -> str:
    return f"{gain.value:+.3f} ({gain.lower:+.3f} to {gain.upper:+.3f})"


if __name__ == "__main__":
    main()
