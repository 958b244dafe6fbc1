"""Name every file and folder under data/, by one constant or function each, in the order of the stages."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import UserError
from pipeline.spreadsheets import restored, write_csv

DATA = Path("data")


class Role(StrEnum):
    """The role of a case in one training, as in the column `role` of data/split/<k>.csv."""

    TRAIN = "train"
    VALIDATION = "validation"
    HELD_OUT = "held_out"
    TEST = "test"
    CALIBRATION = "calibration"
    UNLABELLED = "unlabelled"
    EXCLUDED = "excluded"


CARD_FILE = "card.yaml"  # in the folder of the cohort, with the texts of the model card
DEMO = Path("data/demo")
COHORT = DATA / "cohort"
CASES = COHORT / "cases.csv"
COLUMNS = COHORT / "columns.csv"
INPUTS = COHORT / "inputs.json"  # types of the columns that the model takes besides the image
AUDIT = COHORT / "audit.csv"
COHORT_FACTS = COHORT / "cohort.json"
SIMULATED = COHORT / "simulated"
SETTINGS = COHORT / "settings"
STATEMENTS = SETTINGS / "card.json"  # the texts of card.yaml

PREPARED = DATA / "prepared"
PREPARED_CASES = PREPARED / "cases"
PREPARED_MASKS = PREPARED / "masks"  # of cohorts with masks
INDEX = PREPARED / "index.csv"
UNPREPARED = PREPARED / "refused.csv"
GEOMETRY = PREPARED / "geometry.json"
READING = PREPARED / "reading.json"
HISTOGRAMS = PREPARED / "histograms.csv"

SPLIT = DATA / "split"
SPLIT_SUMMARY = SPLIT / "summary.json"
DUPLICATES = SPLIT / "duplicates.csv"
COUNTS = SPLIT / "counts.csv"
ADAPTED = DATA / "adapted"
FOLDS = DATA / "folds"
COST = DATA / "cost"

CALIBRATED = DATA / "calibrated"
CALIBRATOR = CALIBRATED / "calibrator.json"
THRESHOLDS = CALIBRATED / "thresholds.json"
STAMPS = CALIBRATED / "stamps.json"
PREDICTIONS = CALIBRATED / "predictions.csv"

METRICS = DATA / "metrics"
SUMMARY = METRICS / "summary.json"
METRICS_OF_FOLDS = METRICS / "folds"
METRICS_POOLED = METRICS / "pooled"
PER_CLASS = METRICS / "per_class.csv"
ROC = METRICS / "roc.csv"
RELIABILITY = METRICS / "reliability.csv"
ALL_METRICS = METRICS / "all_metrics.csv"
LEFT_OUT = METRICS / "left_out.csv"
COLLAPSES = METRICS / "collapses.csv"
SEARCH = METRICS / "search.csv"
VALIDATORS = METRICS / "validators.csv"
MEMBERS = METRICS / "members.csv"
REPEATS = METRICS / "repeats.csv"
ASSESSED = METRICS / "assessed"
OPENINGS = DATA / "openings.csv"

EVIDENCE = DATA / "evidence"
VERDICTS = METRICS / "verdicts.csv"

EXPLAINED = DATA / "explained"
MISTAKES = EXPLAINED / "mistakes.csv"

OUT_OF_DISTRIBUTION = DATA / "out_of_distribution"  # the user's own scans that the model should not answer
RELEASED = DATA / "released"
SCRATCH = DATA / "scratch"
ACTIVATIONS = SCRATCH / "activations"
REPORT = DATA / "report" / "index.html"


def settings(section: str) -> Path:
    """Name the settings that a section of params.yaml takes from the cohort."""
    return SETTINGS / f"{section}.json"


def split(fold: str) -> Path:
    """Name the table of the role of each case in a fold."""
    return SPLIT / f"{fold}.csv"


def adapted_encoder(fold: str) -> Path:
    """Name the weights of the encoder that fold `fold` starts from."""
    return ADAPTED / fold / "encoder.safetensors"


def adapted_sites(fold: str) -> Path:
    """Name the per-site values of that encoder's network; the file is empty for methods without them."""
    return ADAPTED / fold / "sites.safetensors"


def adaptation(fold: str) -> Path:
    """Name the record of the adaptation of that encoder."""
    return ADAPTED / fold / "adaptation.json"


def search(fold: str) -> Path:
    """Name the logits of the evaluated cases by each method in the search of `adapt.method: auto`."""
    return ADAPTED / fold / "search.csv"


def model(fold: str) -> Path:
    """Name the trained weights of a fold."""
    return FOLDS / fold / "model.safetensors"


def network(fold: str) -> Path:
    """Name the arguments that rebuild the network around those weights."""
    return FOLDS / fold / "network.json"


def recipe(fold: str) -> Path:
    """Name the record of how a fold was trained, including the strategies that were tried."""
    return FOLDS / fold / "recipe.json"


def predictions(fold: str) -> Path:
    """Name the logits of the cases on which a fold was not trained."""
    return FOLDS / fold / "predictions.csv"


def member_predictions(fold: str) -> Path:
    """Name the logits of the same cases by each member of a portfolio; without rows for a single network."""
    return FOLDS / fold / "members.csv"


def features(fold: str) -> Path:
    """Name the pooled features and the attention of the same cases."""
    return FOLDS / fold / "features.npz"


def history(fold: str) -> Path:
    """Name the training curve of a fold."""
    return FOLDS / fold / "history.csv"


def checkpoints(stage: str, fold: str) -> Path:
    """Name the folder of the checkpoints of a stage and fold; it is deleted when the fold is done."""
    return SCRATCH / stage / fold


def progress(stage: str, fold: str) -> Path:
    """Name the file beside the latest checkpoint of a stage and fold that holds its epoch as plain values."""
    return checkpoints(stage, fold) / "progress.json"


def activity(stage: str, fold: str) -> Path:
    """Name the file that says what a stage does while it runs; `status` reads it."""
    return SCRATCH / "now" / "_".join(filter(None, [stage, fold]))


def cost(stage: str, fold: str = "") -> Path:
    """Name the record of a stage's seconds and peak memory; no result depends on it."""
    return COST / (f"{stage}_{fold}.json" if fold else f"{stage}.json")


def fold_metrics(fold: str) -> Path:
    """Name the metrics of one fold."""
    return METRICS_OF_FOLDS / f"{fold}.json"


def pooled_metrics(scope: str) -> Path:
    """Name the metrics of a pooled set, e.g. "internal_calibrated"."""
    return METRICS_POOLED / f"{scope}.json"


def assessed(table: str) -> Path:
    """Name a further table of the stage `calibrate`, with rows for each scope, e.g. "decision_curve"."""
    return ASSESSED / f"{table}.csv"


def evidence(table: str) -> Path:
    """Name a table of the stage `evidence`, e.g. "learning_curve"."""
    return EVIDENCE / f"{table}.csv"


def bundle(name: str) -> Path:
    """Name the folder of a released model."""
    return RELEASED / name


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of cases; text stays text, and no text is read as a missing value.

    Raises
    ------
    UserError
        If the stage that writes it has not run, or the file is damaged.
    """
    kinds = {"site": str, "label": str, "split": str}
    try:
        return restored(pd.read_csv(_present(path), dtype=kinds, keep_default_na=False))
    except ValueError as error:
        raise _damaged(path) from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table with all digits of floats, so that equal runs give equal bytes; no text is a formula."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(table, path)


def read_json(path: Path) -> Any:
    """Read plain values; raise UserError if the stage that writes them has not run, or the file is damaged."""
    try:
        return json.loads(_present(path).read_text())
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error


def write_json(values: Any, path: Path) -> None:
    """Write plain values; NaN and infinity raise ValueError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")


def _present(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is not there yet: `dvc repro` runs the stage that writes it")
    return path


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: `medadapt repair` restores it, or remove it, and `dvc repro` writes it again")
