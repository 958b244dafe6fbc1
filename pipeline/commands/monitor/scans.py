"""Read the predictions of a model in use and the labels that became known."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.bundle.numbers import LIMITS
from pipeline.bundle.predictor import BAD_IMAGE, WITHHELD
from pipeline.commands.files import check_readable
from pipeline.commands.labels import flaw_in, numbers_of, scans_named, written_as
from pipeline.errors import UserError
from pipeline.imaging.labels import LOG_HAZARD, VALUE
from pipeline.imaging.tables.text_table import BadTable, read_text_table
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.questions import Question, questions_of
from pipeline.spreadsheets import restored

Floats = NDArray[np.float64]

Flaws = Mapping[str, Callable[[str], str]]  # by column of a label: says what is wrong with a value, "" if nothing is

ROUNDED = 0.02  # largest difference of a sum of probabilities from 1
ZONE = r"(?<=:\d\d)(?:[.,]\d+)?\s*(?:Z|[+-]\d\d(?::?\d\d)?)$"


@dataclass(frozen=True)
class Monitored:
    """Predictions, labels and dates of the scans of a model in use.

    Attributes
    ----------
    scans : pandas.DataFrame
        Scans in temporal order: scan, patient, a column for each class (NaN for an unreadable scan), label (or NaN),
        and `date` if known. Of a regression the number and the limits of its interval take the place of the classes, of
        survival the log hazard, with the time as `label`, and `event`.
    classes : list of str
        Of a regression and of survival the name of the output.
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
    """Read and join the tables of predicted probabilities and of labels, in temporal order.

    Raises
    ------
    UserError
        If a column is missing, a scan is listed twice or only in `labels`, or a label names an unknown class.
    """
    scans = predicted_scans(results, classes)
    for name in classes:
        scans[name] = probabilities_in(scans[name], results)
    check_rows(scans, classes, several, results)

    def flaw_of(label: str) -> str:
        flaw = flaw_in(label, classes, several)
        return f"{flaw}; {written_as(classes, several)}" if flaw else ""

    scans, dated = with_labels_and_dates(scans, results, labels, classes, flaws={"label": flaw_of})
    return Monitored(scans, classes, several, dated)


def read_monitored_numbers(results: Path, labels: str | None) -> Monitored:
    """Read and join the tables of predicted and of true numbers, in temporal order; raise as `read_monitored`.

    The limits of intervals are NaN where the model gives none.
    """
    scans = predicted_scans(results, [VALUE, *LIMITS])
    for column in (VALUE, *LIMITS):
        scans[column] = numbers_in(scans[column], results)
    scans, dated = with_labels_and_dates(scans, results, labels, [VALUE], flaws={"label": flaw_of_number})
    return Monitored(scans.assign(label=scans["label"].astype(float)), [VALUE], several=False, dated=dated)


def read_monitored_times(results: Path, labels: str | None) -> Monitored:
    """Read and join the tables of predicted log hazards and of times, in temporal order; raise as `read_monitored`.

    The column `label` is the time, and `event` tells whether it is that of the event.
    """
    scans = predicted_scans(results, [LOG_HAZARD])
    scans[LOG_HAZARD] = numbers_in(scans[LOG_HAZARD], results)
    flaws = {"time": flaw_of_time, "event": flaw_of_event}
    scans, dated = with_labels_and_dates(scans, results, labels, [LOG_HAZARD], flaws=flaws)
    known = scans.assign(label=scans["time"].astype(float), event=scans["event"].astype(float))
    return Monitored(known, [LOG_HAZARD], several=False, dated=dated)


def predicted_scans(results: Path, names: list[str]) -> pd.DataFrame:
    """Read the predictions in the named columns, with those of scans that were not answered, as text."""
    scans = table_of(results, ["scan", *names])
    refuse_twice(scans["scan"], results)
    scans["patient"] = scans["patient"].fillna(scans["scan"]) if "patient" in scans else scans["scan"]
    return with_withheld(scans, names, results)


def with_labels_and_dates(
    scans: pd.DataFrame, results: Path, labels: str | None, names: list[str], *, flaws: Flaws
) -> tuple[pd.DataFrame, bool]:
    """Add the labels that are known, in the columns of `flaws`, sort by date, and tell whether dates are known."""
    if "ood_score" in scans:
        scans["ood_score"] = scores_in(scans, names, results)
    scans = scans.drop(columns=list(flaws), errors="ignore")
    scans = scans.assign(**dict.fromkeys(flaws)) if labels is None else with_labels(scans, Path(labels), flaws)
    dated = "date" in scans
    if dated:
        moments, scans["date"] = dates_of(scans["date"], results)
        scans = scans.iloc[np.argsort(moments, kind="stable")]
    return scans.reset_index(drop=True), dated


def with_withheld(scans: pd.DataFrame, classes: Sequence[str], file: Path) -> pd.DataFrame:
    """Fill in the probabilities of scans that were read but not answered, from the columns `withheld_<class>`.

    The reference of monitoring holds all development cases, whether they would be answered or not. Without these scans
    a model that answers less and less would look unchanged, and counted as unreadable they would raise an alarm.

    Raises
    ------
    UserError
        If such a scan has no probabilities.
    """
    for name in classes:
        if WITHHELD + name in scans:
            scans[name] = scans[name].fillna(scans[WITHHELD + name])
    if "abstains" not in scans:
        return scans
    read = scans["abstains"].notna() & (scans["abstains"] != BAD_IMAGE)
    if len(lost := scans.loc[read & scans[classes[0]].isna(), "scan"]):
        raise UserError(
            f"{file}: scan '{lost.iloc[0]}' was not answered, and the columns {WITHHELD}{classes[0]}, ... with its "
            "probabilities are missing; monitoring needs them: keep all columns that `predict --out` writes"
        )
    return scans


def table_of(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table as text, and check its columns."""
    check_readable(file)
    try:
        table = restored(read_text_table(file))
    except BadTable as error:
        raise UserError(str(error)) from error
    if missing := [name for name in columns if name not in table]:
        raise UserError(f"{file}: column '{missing[0]}' is missing; the table needs {', '.join(columns)}")
    table = table.replace("", np.nan)
    if table.empty or table["scan"].isna().any():
        what = f"row {int(np.argmax(table['scan'].isna())) + 1} names no scan" if len(table) else "it has no rows"
        raise UserError(f"{file}: {what}; each row needs the name of a scan")
    return table


def probabilities_in(column: "pd.Series[Any]", file: Path) -> "pd.Series[Any]":
    """Read probabilities; empty means NaN, for an unreadable scan."""
    values = pd.to_numeric(column, errors="coerce")
    if (values.isna() & column.notna()).any() or not values.dropna().between(0, 1).all():
        raise UserError(f"{file}: the column '{column.name}' has values that are not probabilities from 0 to 1")
    return values


def numbers_in(column: "pd.Series[Any]", file: Path) -> "pd.Series[Any]":
    """Read finite numbers; empty means NaN, for an unreadable scan, or for a number without an interval."""
    values = pd.to_numeric(column, errors="coerce")
    if (values.isna() & column.notna()).any() or np.isinf(values).any():
        raise UserError(f"{file}: the column '{column.name}' has values that are no finite numbers")
    return values


def flaw_of_number(label: str) -> str:
    """Say why a label is no number; "" if it is one."""
    try:
        finite = math.isfinite(float(label))
    except ValueError:
        finite = False
    return "" if finite else "it is no finite number; write one with a decimal point, without its unit"


def flaw_of_time(label: str) -> str:
    """Say why a label is no time; "" if it is one."""
    if flaw := flaw_of_number(label):
        return flaw
    return "" if float(label) > 0 else "it is not above 0; count the time from the day of the scan"


def flaw_of_event(label: str) -> str:
    """Say why a label tells no event; "" if it does."""
    return "" if label in ("0", "1", "0.0", "1.0") else "it is neither 0 (censored) nor 1 (the event)"


def check_rows(scans: pd.DataFrame, classes: list[str], several: bool, file: Path) -> None:
    """Check that a scan has the probabilities of all classes or of none, and that those of one class each sum to 1."""
    found = scans[classes]
    partial = found.isna().any(axis=1) & found.notna().any(axis=1)
    wrong = found.notna().all(axis=1) & ((found.sum(axis=1) - 1).abs() > ROUNDED) & (not several)
    for rows, what in ((partial, "lacks some of its probabilities"), (wrong, "has probabilities that do not sum to 1")):
        if rows.any():
            raise UserError(f"{file}: scan '{scans['scan'][rows].iloc[0]}' {what}; correct them, or leave all empty")


def scores_in(scans: pd.DataFrame, classes: list[str], file: Path) -> "pd.Series[Any]":
    """Read the OOD scores of all readable scans."""
    values = pd.to_numeric(scans["ood_score"], errors="coerce")
    absent = ~np.isfinite(values.to_numpy(float)) & scans[classes[0]].notna().to_numpy()
    if absent.any():
        scan = scans["scan"][absent].iloc[0]
        raise UserError(
            f"{file}: scan '{scan}' has no number in the column 'ood_score'; correct it or remove the column"
        )
    return values


def dates_of(column: "pd.Series[Any]", file: Path) -> tuple[NDArray[np.int64], "pd.Series[Any]"]:
    """Read dates: the moments, which order the scans, and the local dates, which people know.

    Raises
    ------
    UserError
        If a date is missing, or only some have a time zone, because the order is then undefined.
    """
    moments = pd.to_datetime(column, errors="coerce", format="ISO8601", utc=True)
    if moments.isna().any():
        raise UserError(
            f"{file}: every row of the column 'date' needs a date such as 2026-03-31; correct it or remove the column"
        )
    zoned = column.str.contains(ZONE, regex=True)
    if zoned.any() and not zoned.all():
        raise UserError(f"{file}: only some rows of the column 'date' have a time zone; give all of them one, or none")
    local = pd.to_datetime(column.str.replace(ZONE, "", regex=True).str.strip(), format="ISO8601")
    return moments.astype("int64").to_numpy(), local


def as_predicted(names: "pd.Series[Any]", scans: "pd.Series[Any]", file: Path) -> list[str]:
    """Name the scans of a table of labels as the results do; both may hold names or paths."""
    try:
        return scans_named(names.tolist(), scans.tolist())
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error


def refuse_twice(names: "pd.Series[Any]", source: Path) -> None:
    """Refuse a table that lists a scan twice."""
    if (twice := names[names.duplicated()]).any():
        raise UserError(f"{source}: scan '{twice.iloc[0]}' is listed twice; keep one row of it")


def with_labels(scans: pd.DataFrame, file: Path, flaws: Flaws) -> pd.DataFrame:
    """Add the labels that became known; `flaws` says for each of their columns what is wrong with a value."""
    columns = list(flaws)
    labels = table_of(file, ["scan", *columns])[["scan", *columns]].dropna(how="all", subset=columns)
    if labels.empty:
        raise UserError(f"{file}: no row has a label; fill the column {' and '.join(columns)}, or leave the table out")
    refuse_twice(labels["scan"], file)
    meant = labels.assign(scan=as_predicted(labels["scan"], scans["scan"], file))
    refuse_twice(meant["scan"], file)
    for column, flaw_of in flaws.items():
        where = "" if column == "label" else f"column '{column}': "
        for scan, label in zip(labels["scan"], labels[column], strict=True):
            if what := "it is missing" if pd.isna(label) else flaw_of(label):
                raise UserError(f"{file}: {scan}: {where}{what}")
    return scans.merge(meant, on="scan", how="left", validate="one_to_one")
