"""Print results on a terminal, in tables of at most 120 characters."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from pipeline.bundle.opening import Opened
from pipeline.bundle.predictor import BAD_IMAGE, WITHHELD
from pipeline.commands.numbers import lines_of, lines_of_times
from pipeline.commands.results import Row, decision_counts, withheld_line

WIDTH = 120
LONGEST_NAME = 40  # characters of a scan's name, counted from its end
LONGEST_TEXT = 28  # of a set or a decision
FEW = 2  # classes that are shown where all do not fit


def print_predictions(
    table: pd.DataFrame, patients: pd.DataFrame | None, bundle: Opened, *, show_withheld: bool
) -> None:
    """Print scans, patients and decisions; the last line says for how many scans there is no answer, and why."""
    lines = lines_of_times if bundle.risks else lines_of
    scans = partial(lines, unit=bundle.unit, show_withheld=show_withheld)
    print(scans(table) if bundle.unit else table_of(table, bundle.classes, show_withheld))
    for name, reason in table.loc[table["abstains"] == BAD_IMAGE, ["scan", "reason"]].itertuples(index=False):
        print(f"{from_end(name, LONGEST_NAME)}: {reason}")
    withheld = ~table["abstains"].isin(["", BAD_IMAGE])
    if withheld.any():
        what = "risks" if bundle.risks else "numbers" if bundle.unit else "probabilities"
        print(
            "in brackets: withheld, no answer of the model"
            if show_withheld
            else f"{what} are withheld where the model gives no answer; --show-withheld prints them"
        )
    if patients is not None:
        print(f"by patient, from the answered scans ({bundle.per_patient} of their logits):")
        print(scans(patients, name="patient") if bundle.unit else patients_of(patients, bundle.classes))
    if decisions := decision_counts(table):
        print(f"decisions ({bundle.operating_point.rule if bundle.operating_point else ''}): {decisions}")
    print(f"model status: {bundle.status}; research use only, not a medical device")
    print(withheld_line(table))


def patients_of(patients: pd.DataFrame, classes: Sequence[str]) -> str:
    """Show the table of patients."""
    rows = []
    for row in patients.astype(object).to_dict("records"):
        values = {name: "" if pd.isna(row[name]) else f"{row[name]:.4f}" for name in classes}
        texts = {"scan": from_end(row["patient"], LONGEST_NAME), "answered": f"{row['answered']} of {row['scans']}"}
        decision = {"decision": from_start(row["decision"], LONGEST_TEXT)} if "decision" in row else {}
        rows.append((texts | decision, values))
    return fitting(rows).replace("scan", "patient", 1)


def table_of(table: pd.DataFrame, classes: Sequence[str], show_withheld: bool) -> str:
    """Show scan, probabilities, set, decision, and why there is no answer.

    Where the probabilities of all classes do not fit, the highest two are shown. `show_withheld` puts withheld
    probabilities and sets in brackets.
    """
    rows = [shown(row, classes, show_withheld) for row in table.astype(object).to_dict("records")]
    return fitting(rows)


def fitting(rows: Sequence[tuple[dict[str, str], dict[str, str]]]) -> str:
    """Align texts and probabilities; where the probabilities of all classes do not fit, show the highest."""
    text = in_columns([{**row, **values} for row, values in rows])
    if max(map(len, text.splitlines())) <= WIDTH:
        return text
    return in_columns([{**row, "most probable": highest(values)} for row, values in rows])


def shown(row: Row, classes: Sequence[str], show_withheld: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts of a row, and its probabilities by class."""
    start, brackets = "", "{}"
    if show_withheld and row["abstains"] not in ("", BAD_IMAGE):
        start, brackets = WITHHELD, "({})"
    known = [(name, row[start + name]) for name in classes]
    values = {name: "" if pd.isna(value) else brackets.format(f"{value:.4f}") for name, value in known}
    texts = {"scan": from_end(row["scan"], LONGEST_NAME)}
    if "set" in row:
        texts["set"] = from_start(brackets.format(row[f"{start}set"]) if row[f"{start}set"] else "", LONGEST_TEXT)
    if "decision" in row:
        texts["decision"] = from_start(row["decision"], LONGEST_TEXT)
    return texts | {"no answer": row["abstains"]}, values


def highest(values: dict[str, str]) -> str:
    """Name the classes of the highest probabilities."""
    known = sorted(((text.strip("()"), name, text) for name, text in values.items() if text), reverse=True)
    return ", ".join(f"{from_start(name, LONGEST_TEXT)} {text}" for _, name, text in known[:FEW])


def in_columns(rows: Sequence[dict[str, str]]) -> str:
    """Align rows of texts; the scan comes first, then probabilities, then the other texts."""
    last = ("set", "decision", "answered", "no answer")
    names = [name for name in rows[0] if name not in last] + [name for name in last if name in rows[0]]
    names = [name for name in names if name == "scan" or any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = [{name: name for name in names}, *rows]
    return "\n".join("  ".join(line[name].ljust(widths[name]) for name in names).rstrip() for line in lines)


def from_end(text: str, most: int) -> str:
    """Shorten a text to its end, which tells names of files apart.

    >>> from_end("a/long/folder/scan.nii.gz", 12)
    '…scan.nii.gz'
    """
    return text if len(text) <= most else "…" + text[1 - most :]


def from_start(text: str, most: int) -> str:
    """Shorten a text to its start."""
    return text if len(text) <= most else text[: most - 1] + "…"
