"""Choose the further columns of a source that cohort.csv keeps: those that identify no patient."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.imaging.tables.cohort_table import OPTIONAL, REQUIRED, TIMES, flaw_of_groups
from pipeline.stages.cohort.importers.found import BadSource, Import

KNOWN = (*REQUIRED, *OPTIONAL)


def keep_columns(found: Import, of_case: Mapping[str, Mapping[str, str]], asked: Sequence[str]) -> None:
    """Add columns to the cases that tell groups of patients apart, and note which are kept or left out, and why.

    Parameters
    ----------
    found : Import
        Cases without further columns.
    of_case : mapping
        Values of the further columns by case id; other case ids are ignored.
    asked : sequence of str
        Columns that the user names.

    Raises
    ------
    BadSource
        If a column of `asked` does not exist, or could identify a patient.
    """
    rows = pd.DataFrame([of_case[case.row["case_id"]] for case in found.cases], dtype=str).fillna("")
    if absent := [name for name in asked if name not in rows]:
        raise BadSource(f"--keep: there is no further column '{absent[0]}' (there are {', '.join(rows) or 'none'})")
    patients = pd.Series([case.row["patient_id"] or case.row["case_id"] for case in found.cases], dtype=str)
    names = {name: re.sub(r"\W+", "_", name).strip("_") for name in rows}
    flaws = {name: _flaw(rows[name].rename(names[name]), patients, list(names.values())) for name in rows}
    for name in asked:
        if flaws[name]:
            raise BadSource(f"--keep: the column '{name}' {flaws[name]}; leave it out of --keep")
    kept = [name for name in rows if not flaws[name]]
    for case, values in zip(found.cases, rows[kept].to_dict("records"), strict=True):
        case.row.update({names[str(name)]: value for name, value in values.items()})
    if kept:
        found.notes.append(f"columns kept: {', '.join(names[name] for name in kept)}")
    found.notes += [f"column '{name}' left out: it {flaw}" for name, flaw in flaws.items() if flaw]


def _flaw(column: "pd.Series[str]", patients: "pd.Series[str]", names: Sequence[str]) -> str:
    """Explain why cohort.csv cannot have a column; return "" if it can."""
    if column.name in KNOWN or not column.name:
        return "has a name with another meaning in cohort.csv; rename it"
    if column.name in TIMES and set(TIMES) <= set(names):
        return ""  # `cohort` checks them
    if Counter(names)[str(column.name)] > 1:
        return "has the name of another column, but for spaces and signs; rename it"
    return flaw_of_groups(column, patients)
