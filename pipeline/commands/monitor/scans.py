"""Read the predictions of a model in use and the labels that became known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.commands.files import check_readable
from pipeline.commands.labels import flaw_in, numbers_of, written_as
from pipeline.errors import UserError
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.questions import Question, questions_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Monitored:
    """Predictions, labels and dates of the scans of a model in use.

    Attributes
    ----------
    scans : pandas.DataFrame
        Scans in temporal order: scan, patient, a column for each class (NaN for an unreadable scan), label (or NaN),
        and `date` if known.
    classes : list of str
    several : bool
        Whether a label may name any number of classes (a multilabel model).
    dated : bool
        Whether dates determine the order.
    """

    scans: pd.DataFrame
    classes: list[str]
    several: bool
    dated: bool

    @property
    def patients(self) -> pd.DataFrame:
        """Select the first scan of each patient, because scans of the same patient are not independent."""
        return self.scans.drop_duplicates("patient")

    @property
    def read(self) -> pd.DataFrame:
        """Select the first readable scan of each patient."""
        return self.scans[self.scans[self.classes[0]].notna()].drop_duplicates("patient")

    @property
    def labelled(self) -> pd.DataFrame:
        """Select the readable scans with a label."""
        return self.scans[self.scans[self.classes[0]].notna() & self.scans["label"].notna()]

    def predictions(self, scans: pd.DataFrame) -> tuple[Floats, Labels]:
        """Return the probabilities (n, K) of labelled scans, and their labels in the format of `numbers_of`."""
        return scans[self.classes].to_numpy(float), numbers_of(scans["label"].tolist(), self.classes, self.several)

    def questions(self, scans: pd.DataFrame) -> list[Question]:
        """Return the questions whose calibration is tested: each label, the last of two classes, or the top label."""
        probabilities, labels = self.predictions(scans)
        questions = questions_of(probabilities, labels, self.classes)
        return questions if self.several else questions[-1:]


def read_monitored(results: Path, labels: str | None, classes: list[str], several: bool) -> Monitored:
    """Read and join both tables, in temporal order.

    Raises
    ------
    UserError
        If a column is missing, a scan is listed twice or only in `labels`, or a label names an unknown class.
    """
    scans = table_of(results, ["scan", *classes])
    if "patient" not in scans:
        scans["patient"] = scans["scan"]
    for name in classes:
        scans[name] = probabilities_in(scans[name], results)
    if "ood_score" in scans:
        scans["ood_score"] = pd.to_numeric(scans["ood_score"], errors="coerce")
    scans = scans.drop(columns=["label"], errors="ignore")
    scans = scans.assign(label=None) if labels is None else with_labels(scans, Path(labels), classes, several)
    dated = "date" in scans
    if dated:
        scans["date"] = dates_of(scans["date"], results)
        scans = scans.sort_values("date", kind="stable")
    return Monitored(scans.reset_index(drop=True), classes, several, dated)


def table_of(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table as text, and check its columns."""
    check_readable(file)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{file}: not a readable csv file ({error})") from error
    if missing := [name for name in columns if name not in table]:
        raise UserError(f"{file}: column '{missing[0]}' is missing; the table needs {', '.join(columns)}")
    return table.replace("", np.nan)


def probabilities_in(column: "pd.Series[Any]", file: Path) -> "pd.Series[Any]":
    """Read probabilities; empty means NaN, for an unreadable scan."""
    values = pd.to_numeric(column, errors="coerce")
    if (values.isna() & column.notna()).any() or not values.dropna().between(0, 1).all():
        raise UserError(f"{file}: the column '{column.name}' has values that are not probabilities from 0 to 1")
    return values


def dates_of(column: "pd.Series[Any]", file: Path) -> "pd.Series[Any]":
    """Read dates; a missing date is an error, because it leaves the order undefined."""
    values = pd.to_datetime(column, errors="coerce", format="ISO8601")
    if values.isna().any():
        raise UserError(
            f"{file}: every row of the column 'date' needs a date such as 2026-03-31; correct it or remove the column"
        )
    return values


def with_labels(scans: pd.DataFrame, file: Path, classes: list[str], several: bool) -> pd.DataFrame:
    """Add the labels that became known."""
    labels = table_of(file, ["scan", "label"])[["scan", "label"]].dropna()
    for table, source in ((labels, file), (scans, "the results")):
        if (twice := table["scan"][table["scan"].duplicated()]).any():
            raise UserError(f"{source}: scan '{twice.iloc[0]}' is listed twice; keep one row of it")
    for scan, label in zip(labels["scan"], labels["label"], strict=True):
        if what := flaw_in(label, classes, several):
            raise UserError(f"{file}: {scan}: {what}; {written_as(classes, several)}")
    if unknown := sorted(set(labels["scan"]) - set(scans["scan"])):
        raise UserError(f"{file}: scan '{unknown[0]}' is not in the results; correct its name or remove the row")
    return scans.merge(labels, on="scan", how="left", validate="one_to_one")
