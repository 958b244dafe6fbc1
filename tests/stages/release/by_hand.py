"""What calibrate would write before a release, written by hand."""

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.metrics.calibrators.fitting import fit
from pipeline.metrics.summary import in_columns
from pipeline.stages.calibrate.predictions import hash_of_model
from tests.stages.running import run

NAME = "ill_or_well"


LOGITS = ["logit_0", "logit_1"]


METRIC = {"value": 0.8, "lower": 0.7, "upper": 0.9}


def train(*folds):
    run(
        "cohort",
        "preprocess",
        "split",
        *(f"{stage} --fold {fold}" for fold in folds for stage in ("adapt", "finetune")),
    )


def evaluate_by_hand(form, members):
    """Write what calibrate would: a map of the members' mean logits, and metrics that pass some gate."""
    role = "calibration" if form == "ensemble" else "held_out"
    cases, logits = mean_logits(members if form == "ensemble" else ["0", "1", "2"], role)
    calibrator = fit("platt", logits, (cases["label"] == "ill").to_numpy().astype(int))
    known = {"form": form, "members": members, "fitted_on": {"cases": len(cases)}}
    known |= {"model_sha256": {fold: hash_of_model(fold) for fold in members if paths.model(fold).exists()}}
    paths.write_json(known | calibrator.as_json(), paths.CALIBRATOR)
    names = ["auc", "log_loss", "brier", "calibration_slope", "ece", "ece_if_perfect"]
    metrics = {"n": 20, "patients": 20, "events": 9} | dict.fromkeys(names, METRIC)
    paths.write_json(metrics, paths.pooled_metrics("internal_calibrated"))
    classes = pd.DataFrame({"class": ["well", "ill"], "n": [11, 9], "scope": "internal"})
    paths.write_table(classes, paths.PER_CLASS)
    group = {"column": "site", "value": "inside", "too_few": True, "of": "ill", "scope": "internal"}
    group |= {"n": 20, "events": 9}
    paths.write_table(pd.DataFrame([group | in_columns({"auc": METRIC})]), paths.assessed("subgroups"))
    rules = ("sensitivity at specificity 0.90", "specificity at sensitivity 0.90")
    paths.write_json({"scan": {"specificity": {"ill": 0.4}, "sensitivity": {"ill": 0.2}}}, paths.THRESHOLDS)
    point = {"of": "ill", "scope": "internal", "n": 20, "patients": 15, "events": 9, "threshold": 0.41}
    point |= in_columns(dict.fromkeys(["sensitivity", "specificity", "ppv", "npv"], METRIC))
    paths.write_table(pd.DataFrame([point | {"rule": rule} for rule in rules]), paths.assessed("operating_points"))
    test = {"scope": "external", "shown": False, "acknowledged_leaks": []}
    stamps = {"simulated": False, "evaluated_images_seen": False, "unit_of_intervals": "patient"}
    stamps |= {"scopes": ["internal"], "per_patient": "none"}
    paths.write_json(stamps | {"test_set": test, "sites_seen_unlabelled": []}, paths.STAMPS)
    return calibrator


def mean_logits(folds, role):
    """Pool the logits of what each fold scored in a role; where folds scored the same cases, their mean."""
    table = pd.concat([pd.read_csv(paths.predictions(fold)) for fold in folds]).query(f"role == '{role}'")
    cases = table.groupby("case", sort=False).agg({"label": "first"} | dict.fromkeys(LOGITS, "mean"))
    return cases, cases[LOGITS].to_numpy().astype(np.float32).astype(np.float64)
