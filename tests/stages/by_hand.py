"""What adapt and finetune would write for a fold, written by hand."""

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.imaging.labels import targets_of
from tests.stages.running import run

PROVENANCE = {"encoder": "tiny", "source": "a file", "licence": "Apache-2.0", "sha256": None, "pretraining": "ImageNet"}


def record(fold, **changes):
    """Write down an adaptation by adabn that saw the training cases and the unlabelled ones."""
    roles = pd.read_csv(paths.split(fold))["role"]
    values = {"provenance": PROVENANCE, "method": "adabn", "strength": 0.5, "target": "unlabelled"}
    values |= {"images_seen": int(roles.isin(["train", "unlabelled"]).sum()), "unlabelled_sites": ["outside"]}
    paths.write_json(values | {"evaluated_seen": False} | changes, paths.adaptation(fold))


def write_fold(fold, predictions, weights=b"weights"):
    """Write the predictions of a fold with one network, its curve and weights, as finetune would."""
    paths.write_table(predictions, paths.predictions(fold))
    paths.write_table(predictions.iloc[:0].assign(member=""), paths.member_predictions(fold))
    paths.model(fold).write_bytes(weights)
    curve = {"epoch": [0, 1], "train_loss": [0.7, 0.5], "validation_loss": [0.7, 0.6], "best": [False, True]}
    paths.write_table(pd.DataFrame(curve).assign(member="probe"), paths.history(fold))


def trained_by_hand(fold, seed=0):
    """Write predictions that are right more often than not, as finetune would."""
    draws = np.random.default_rng(seed)
    cases = pd.read_csv(paths.split(fold), keep_default_na=False)
    cases = cases[cases["role"].isin(["held_out", "test"])]
    logit = np.where(cases["label"] == "ill", 1.0, -1.0) + draws.normal(0, 1, len(cases))
    write_fold(fold, cases.assign(logit_0=-logit, logit_1=logit))


def searched(**why):
    """Write a search of two candidates: the start, and adabn."""
    scores = ["source_loss", "difference", "standard_error", "information_maximisation"]
    scores += ["soft_neighbourhood_density", "deep_embedded_validation"]
    none = dict.fromkeys(scores, 0.5) | {"method": "none", "strength": 0.0, "kept": True, "why": "the start"}
    adabn = dict.fromkeys(scores, 0.25) | {"method": "adabn", "strength": 0.5, "kept": True, "why": "surer"}
    return [none, adabn | {"difference": -0.125, "standard_error": 0.0625, "deep_embedded_validation": None} | why]


LABELS = ["blob", "edema", "rare"]


def write_predictions(fold, logits_of, width):
    """Write a fold's predictions, its curve and what adaptation did, as adapt and finetune would."""
    cases = pd.read_csv(paths.split(fold), keep_default_na=False)
    cases = cases[cases["role"].isin(["held_out", "test", "calibration"])]
    draws = np.random.default_rng(sum(map(ord, fold)))
    logits = pd.DataFrame(logits_of(cases, draws), columns=[f"logit_{c}" for c in range(width)], index=cases.index)
    write_fold(fold, cases.join(logits), weights=b"weights of " + fold.encode())
    record(fold, unlabelled_sites=[])


def relabel(task, classes, label_of):
    """Put other labels, one for each patient, into what cohort and split wrote."""
    facts = paths.read_json(paths.COHORT_FACTS)
    paths.write_json(facts | {"task": task, "classes": classes, "positive": None}, paths.COHORT_FACTS)
    for file in paths.SPLIT.glob("*.csv"):
        table = pd.read_csv(file, keep_default_na=False)
        if {"patient", "role"} <= set(table):
            paths.write_table(table.assign(label=table["patient"].map(label_of(table))), file)


def labels_of_patients(table):
    """Edema by the number of the patient, the blob as before; rare in one alone; something not known in a third."""
    names = sorted(set(table["patient"]))
    ill = table.drop_duplicates("patient").set_index("patient")["label"] == "ill"
    said = {}
    for number, name in enumerate(names):
        there = ["blob"] * bool(ill[name]) + ["edema"] * (number % 2) + ["?rare"] * (number % 3 == 0)
        said[name] = ";".join(there) or "no finding"
    return said


def right_more_often_than_not(cases, draws):
    targets = targets_of(cases["label"].tolist(), LABELS, "multilabel")
    return 2 * np.nan_to_num(targets) - 1 + draws.normal(0, 1.5, targets.shape)


def of_two_classes(cases, draws):
    logit = np.where(cases["label"] == "ill", 1.0, -1.0) + draws.normal(0, 2, len(cases))
    return np.stack([-logit, logit], axis=1)


def predict_two_classes(project, folds, **changes):
    project(adapt__method="none", split__folds=list(folds), **changes)
    run("cohort", "preprocess", "split")
    for fold in folds:
        write_predictions(fold, of_two_classes, 2)


def interval_of(value, half=0.05):
    """Write a metric with its interval as a file of metrics holds it."""
    ends = (None, None) if value is None else (value - half, value + half)
    return {"value": value, "lower": ends[0], "upper": ends[1]}


def evaluated_by_hand():
    """Write the metrics of two sets and two folds, as calibrate would."""
    internal = {"auc": {"value": 0.95412, "lower": 0.899, "upper": 0.998}, "patients": 64, "n": 64, "events": 32}
    internal |= {name: interval_of(0.25) for name in ("log_loss", "brier", "ece", "calibration_intercept")}
    internal |= {"calibration_slope": interval_of(1.25)}
    sets = {"internal_patients": internal, "internal": internal | {"n": 71}, "external": internal | {"patients": 24}}
    for scope, metrics in sets.items():
        paths.write_json(metrics, paths.pooled_metrics(f"{scope}_calibrated"))
    for fold in ("10", "2", "without-north"):
        paths.write_json(internal | {"patients": int(fold) if fold.isdigit() else 7}, paths.fold_metrics(fold))
    paths.write_json({"scopes": list(sets), "test_set": {"shown": True}}, paths.STAMPS)
