"""The list of models whose metrics of a test set were shown, data/openings.csv."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import UserError

COLUMNS = ["cohort", "model_sha256", "predictions_sha256", "cases"]


def read_openings(file: Path) -> pd.DataFrame:
    """Read the list as text; lines of earlier versions, which name no cohort, have an empty one.

    Raises
    ------
    UserError
        If it is damaged: without it nobody knows how often the test set was opened.
    """
    if not file.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        known = pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{file} is damaged; restore it from git or a backup") from error
    if "predictions_sha256" not in known:
        raise UserError(f"{file} lacks the column predictions_sha256; restore it from git or a backup")
    return known.reindex(columns=COLUMNS, fill_value="")


def count_opening(file: Path, cohort: str, model: str, predictions: NDArray[np.float64]) -> None:
    """Record that a model was evaluated on the test set of a cohort, once for each different model.

    A line of an earlier version with the same predictions gets the name of the cohort.

    Parameters
    ----------
    file : Path
    cohort : str
        Name of the cohort.
    model : str
        SHA-256 of the weights.
    predictions : (n, K)
        Calibrated probabilities of the test cases; they tell models apart.
    """
    digest = hashlib.sha256(predictions.tobytes()).hexdigest()
    known = read_openings(file)
    same = known["predictions_sha256"] == digest
    known.loc[same & (known["cohort"] == ""), "cohort"] = cohort
    if not (same & (known["cohort"] == cohort)).any():
        row = [cohort, model, digest, str(len(predictions))]
        known = pd.concat([known, pd.DataFrame([row], columns=COLUMNS)])
    known.to_csv(file, index=False, lineterminator="\n")


def openings_of(file: Path, cohort: str) -> tuple[int, int]:
    """Count the models for which the test set of a cohort was opened, and the lines that name no cohort."""
    named = read_openings(file)["cohort"]
    return int((named == cohort).sum()), int((named == "").sum())
