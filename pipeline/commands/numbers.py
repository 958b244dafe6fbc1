"""What commands do not do yet with a model of a number or a time, in one table, and its results on a terminal."""

import argparse
from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline import paths
from pipeline.bundle.numbers import LIMITS
from pipeline.bundle.opening import Opened
from pipeline.bundle.predictor import BAD_IMAGE, WITHHELD
from pipeline.errors import UserError
from pipeline.imaging.labels import OUTPUTS
from pipeline.metrics.wording import RISK

PREDICT = "use `medadapt predict BUNDLE SCANS --out FILE.csv`"
REFUSED = {  # by command or option of `predict`: why it is refused, and what to do
    "--site-recalibrate": f"it recalibrates probabilities of classes; {PREDICT}, and compare with the true labels",
    "--site-prevalence": f"it estimates shares of classes; {PREDICT}",
    "--calibration": f"it changes probabilities of classes; {PREDICT} without it",
    "--report": f"its page shows classes; {PREDICT}",
    "--dicom": f"its structured report encodes classes; {PREDICT}",
    "serve": f"its page shows classes; {PREDICT}",
    "listen": f"its structured reports encode classes; {PREDICT}",
    "compare": f"it compares probabilities of classes; compare {paths.SUMMARY} of both runs",
    "encoders": "it compares probes of classes; try adapt.encoder in runs of their own, and compare their metrics",
    "the application of `package --map`": f"its structured reports encode classes; {PREDICT}",
}


def refuse_number(bundle: Opened, asked: str) -> None:
    """Refuse a model of a number or a time where a command or option needs classes."""
    if bundle.told:
        raise UserError(f"{asked}: the model gives {bundle.told}, but {REFUSED[asked]}")


def refuse_cohort(facts: Mapping[str, Any], asked: str) -> None:
    """Refuse a cohort of numbers or times, by its data/cohort/cohort.json, where a command needs classes."""
    if facts.get("task") in OUTPUTS:
        raise UserError(f"{asked}: cohort.task is {facts['task']}, but {REFUSED[asked]}")


def refuse_options(bundle: Opened, arguments: argparse.Namespace) -> None:
    """Refuse the options of `predict` that need classes."""
    for option in REFUSED:
        if option.startswith("--") and getattr(arguments, option[2:].replace("-", "_"), None):
            refuse_number(bundle, option)


def lines_of(table: pd.DataFrame, unit: str, *, show_withheld: bool, name: str = "scan") -> str:
    """Show the number of each scan or patient with its interval; withheld numbers in brackets, if they are shown."""
    rows = []
    for row in table.astype(object).to_dict("records"):
        withheld = show_withheld and row.get("abstains", "") not in ("", BAD_IMAGE)
        value, lower, upper = (row.get(WITHHELD * withheld + one) for one in ("value", *LIMITS))
        text = "" if pd.isna(value) else f"{value:.4g}"
        interval = "" if pd.isna(lower) else f"{lower:.4g} to {upper:.4g}"
        shown = {"value": text, "interval": interval}
        shown = {key: f"({one})" if withheld and one else one for key, one in shown.items()}
        rows.append({name: row[name], f"value in {unit}" if unit != "1" else "value": shown["value"]})
        rows[-1] |= {"interval": shown["interval"], "no answer": row.get("abstains", "")}
    return str(pd.DataFrame(rows).to_string(index=False))


def lines_of_times(table: pd.DataFrame, unit: str, *, show_withheld: bool, name: str = "scan") -> str:
    """Show the risks of each scan or patient and the group; withheld ones in brackets, if they are shown."""
    risks, rows = [column for column in table if str(column).startswith(RISK)], []
    for row in table.astype(object).to_dict("records"):
        withheld = show_withheld and row.get("abstains", "") not in ("", BAD_IMAGE)
        shown = {}
        for column in (*risks, "group"):
            value = row.get(WITHHELD * withheld + column)
            text = "" if pd.isna(value) else str(value) if column == "group" else f"{value:.1%}"
            told = column if column == "group" else f"risk until {column.removeprefix(RISK)} {unit}"
            shown[told] = f"({text})" if withheld and text else text
        rows.append({name: row[name], **shown, "no answer": row.get("abstains", "")})
    return str(pd.DataFrame(rows).to_string(index=False))
