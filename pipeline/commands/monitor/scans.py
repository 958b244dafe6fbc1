"""The scans of a model in use as `monitor` reads them: what it prediction, and what became known of them since."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.commands.labels import flaw_in, numbers_of, written_as
from pipeline.errors import UserError
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.questions import Question, questions_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Watched:
    """What is known of the scans of a model in use.

    Attributes
    ----------
    scans : pandas.DataFrame
        In the order of time: scan, patient, a column for each class (NaN of what could not be read), label (or NaN),
        `date` where it is known.
    classes : list of str
    several : bool
        Whether these stand each by itself, so that a label names any number of them.
    dated : bool
        Whether the order is that of dates.
    """

    scans: pd.DataFrame
    classes: list[str]
    several: bool
    dated: bool

    @property
    def patients(self) -> pd.DataFrame:
        """Keep the first scan of each patient: several of one are alike, and would look like evidence."""
        return self.scans.drop_duplicates("patient")

    @property
    def read(self) -> pd.DataFrame:
        """Keep the first scan of each patient that could be read."""
        return self.scans[self.scans[self.classes[0]].notna()].drop_duplicates("patient")

    @property
    def labelled(self) -> pd.DataFrame:
        """Keep the scans that were read and have a label."""
        return self.scans[self.scans[self.classes[0]].notna() & self.scans["label"].notna()]

    def predictions(self, scans: pd.DataFrame) -> tuple[Floats, Labels]:
        """Give the probabilities (n, K) of labelled scans, and their labels as `numbers_of` does."""
        return scans[self.classes].to_numpy(float), numbers_of(scans["label"].tolist(), self.classes, self.several)

    def questions(self, scans: pd.DataFrame) -> list[Question]:
        """Give the questions of calibration: each label, the last of two classes, or the top label."""
        questions = questions_of(*self.predictions(scans), self.classes)
        return questions if self.several else questions[-1:]


def read_watched(results: Path, labels: str | None, classes: list[str], several: bool) -> Watched:
    """Read both tables and put them together in the order of time.

    Raises
    ------
    UserError
        If a column is missing, a scan stands in `labels` twice or in the results not at all, or a label names no class.
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
    return Watched(scans.reset_index(drop=True), classes, several, dated)


def table_of(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table as text, and make sure of its columns."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: this is not a readable csv file ({error})") from error
    if missing := [name for name in columns if name not in table]:
        raise UserError(f"{file}: there is no column '{missing[0]}'; predict --out writes {', '.join(columns)}")
    return table.replace("", np.nan)


def probabilities_in(column: "pd.Series[Any]", file: Path) -> "pd.Series[Any]":
    """Read probabilities; empty is NaN, for a scan that could not be read."""
    values = pd.to_numeric(column, errors="coerce")
    if (values.isna() & column.notna()).any() or not values.dropna().between(0, 1).all():
        raise UserError(f"{file}: the column '{column.name}' holds something other than probabilities")
    return values


def dates_of(column: "pd.Series[Any]", file: Path) -> "pd.Series[Any]":
    """Read dates, each of which must be there: an order with gaps is none."""
    values = pd.to_datetime(column, errors="coerce", format="ISO8601")
    if values.isna().any():
        raise UserError(f"{file}: the column 'date' must hold a date such as 2026-03-31 in every row, or be left out")
    return values


def with_labels(scans: pd.DataFrame, file: Path, classes: list[str], several: bool) -> pd.DataFrame:
    """Add what became known of the scans."""
    labels = table_of(file, ["scan", "label"])[["scan", "label"]].dropna()
    for table, of in ((labels, file), (scans, "the results")):
        if (twice := table["scan"][table["scan"].duplicated()]).any():
            raise UserError(f"{of}: '{twice.iloc[0]}' stands there twice, so that its label cannot be told")
    for scan, label in zip(labels["scan"], labels["label"], strict=True):
        if what := flaw_in(label, classes, several):
            raise UserError(f"{file}: {scan}: {what}; {written_as(classes, several)}")
    if unknown := sorted(set(labels["scan"]) - set(scans["scan"])):
        raise UserError(f"{file}: the scan '{unknown[0]}' does not stand in the results")
    return scans.merge(labels, on="scan", how="left", validate="one_to_one")
