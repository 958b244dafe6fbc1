"""Check the columns `time` and `event` of a survival cohort, and write them as labels (`pipeline.imaging.labels`)."""

from pathlib import Path

import pandas as pd

from pipeline.imaging.labels import label_of_time
from pipeline.imaging.tables.cohort_table import EXAMPLES, TIMES
from pipeline.stages.cohort.numbers import UNLABELLED, flaw_of_number, listed

TIME, EVENT = TIMES
CODES = {"0": False, "1": True, "0.0": False, "1.0": True}
FEWEST_EVENTS = 10  # patients with the event; below, neither a model nor a statement about it is possible


def problems_of_times(table: pd.DataFrame, file: Path) -> list[str]:
    """List the rows whose time or event cannot be used, and what the columns lack as a whole; no value is told.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `time`, `event`, `patient_id` and `split`, a row for each case.
    file : Path
        Where the table was read, for the messages.
    """
    if missing := [name for name in TIMES if name not in table]:
        needed = "cohort.task is survival, which needs time (until the event, or until censoring) and event (1 or 0)"
        return [f"{file} lacks the column {', '.join(missing)}; {needed}"]
    rows = list(zip(table[TIME], table[EVENT], table["split"], strict=True))
    found = listed(TIME, [_flaw_of_time(*row) for row in rows], file)
    found += listed(EVENT, [_flaw_of_event(time, event) for time, event, _ in rows], file)
    used = [name for name in TIMES if {f"column_{name}", f"covariate_{name}"} & set(table)]
    if used:
        found.append(
            f"{file}: column '{used[0]}' is what the model predicts; leave it out of cohort.inputs, "
            "calibrate.subgroups, calibrate.baseline and cohort.covariates"
        )
    return found or [*_problems_of_patients(table, file), *_problems_of_all(table, file)]


def with_times(table: pd.DataFrame) -> pd.DataFrame:
    """Write time and event of each case as its label, in one way, so that equal ones are equal texts."""
    pairs = zip(table[TIME], table[EVENT], strict=True)
    labels = [label_of_time(float(time), CODES[event]) if time else "" for time, event in pairs]
    return table.assign(label=labels).drop(columns=list(TIMES))


def _flaw_of_time(time: str, event: str, split: str) -> str:
    if not time:
        if event:
            return "there is an event without a time; write the time until the event or until censoring"
        cure = "write time and event, or unlabelled in the column split if they are not known"
        return "" if split == UNLABELLED else f"the time is missing; {cure}"
    if flaw := flaw_of_number(time):
        return flaw
    if float(time) < 0:
        return "it is negative; count the time from the day of the scan, or take the row out"
    late = "an event at the start cannot be predicted; write a time above 0, such as 0.5, or take the row out"
    return "" if float(time) > 0 else f"it is 0; {late}"


def _flaw_of_event(time: str, event: str) -> str:
    if not event:
        return "there is a time without an event; write 1 for the event, 0 for censored" if time else ""
    if event in CODES:
        return ""
    if not flaw_of_number(event) and float(event) > 1 and float(event) % 1 == 0:
        return (
            "it is neither 0 nor 1; several kinds of events (competing risks) are not supported: write 1 for the event "
            "of interest or any of them, such as relapse or death, and 0 for censored"
        )
    return "it is neither 0 nor 1; write 1 for the event, 0 for censored"


def _problems_of_patients(table: pd.DataFrame, file: Path) -> list[str]:
    """Name the rows of patients whose scans have different times: a time counts from one day of the patient."""
    known = with_times(table)
    known = known[known["label"] != ""]
    kinds = known.groupby("patient_id")["label"].transform("nunique")
    rows = [str(row + 1) for row in known.index[kinds > 1]]
    if not rows:
        return []
    shown = ", ".join(rows[: 2 * EXAMPLES]) + (", ..." if len(rows) > 2 * EXAMPLES else "")
    return [
        f"{file}, rows {shown}: scans of one patient differ in time or event; a patient has one time, counted from "
        "one day: write it in each row, or keep the scan of that day"
    ]


def _problems_of_all(table: pd.DataFrame, file: Path) -> list[str]:
    known = table[table[TIME] != ""]
    patients = known.loc[known[EVENT].map(CODES).astype(bool), "patient_id"].nunique()
    if patients < FEWEST_EVENTS:
        said = "no case has the event" if not patients else f"only {patients} patient(s) have the event"
        return [f"{file}: column 'event': {said}; survival needs {FEWEST_EVENTS} patients or more with 1"]
    if known[TIME].astype(float).nunique() < 2:
        return [f"{file}: column 'time' holds one time only; survival needs times that differ"]
    return []
