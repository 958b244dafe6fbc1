"""Summarise a run for the terminal: the metrics of each evaluated set, the gates, and where page and bundle are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.errors import UserError
from pipeline.lock_file import locked_stages
from pipeline.metrics.wording import metric_in_words
from pipeline.stages.report.blocks import is_beside, set_name

SHORT = {"auc": "AUC", "log_loss": "log-loss", "calibration_slope": "calibration slope"}
OF_A_NUMBER = {"mae": "mean absolute error", "r2": "R²", "calibration_slope": "slope", "coverage": "coverage"}
OF_A_TIME = {"c": "C-index", "uno_c": "Uno's C-index", "ipa": "gain in Brier score", "calibration_slope": "slope"}
OLDER = "of an earlier run; `medadapt run all` updates it"
Sets = dict[str, dict[str, Any]]  # metrics by the name of the set


def run_summary(bundle: Path, page_is_new: bool = False) -> list[str]:
    """Write the lines with which a run ends.

    Parameters
    ----------
    bundle : Path
        The folder of the released model; it may be absent.
    page_is_new : bool
        The page is being written, so that dvc.lock does not know it yet.

    Raises
    ------
    UserError
        If nothing was evaluated yet.
    """
    pooled, shown = evaluated_sets(), paths.read_json(paths.STAMPS)["test_set"]["shown"]
    lines = metric_lines(pooled, short_for(pooled))
    if not shown:
        lines.append("test set: not evaluated (there is none, or calibrate.test is closed)")
    if (bundle / "STATUS").exists():
        older = not read_these_metrics("release")
        lines += [f"status: not known for these metrics (the bundle is {OLDER})" if older else status_line(bundle)]
        lines += [f"bundle: {bundle}{f' ({OLDER})' if older else ''}"]
    if paths.REPORT.exists() or page_is_new:
        older = not page_is_new and not read_these_metrics("report")
        lines += [f"page: {paths.REPORT}{f' ({OLDER})' if older else ''}"]
    return lines


def short_for(sets: Sets) -> Mapping[str, str]:
    """Choose the metrics that the terminal shows: those of a number, of a time, or of classes."""
    if any("uno_c" in one for one in sets.values()):
        return OF_A_TIME
    return OF_A_NUMBER if any("mae" in one for one in sets.values()) else SHORT


def evaluated_sets() -> Sets:
    """Read the calibrated metrics of the internal evaluation and of the test set, if it is open.

    Raises
    ------
    UserError
        If nothing was evaluated yet.
    """
    if not paths.STAMPS.exists():
        raise UserError(f"{paths.STAMPS} is not there yet: `medadapt run metrics` evaluates the model")
    scopes = paths.read_json(paths.STAMPS)["scopes"]
    names = {scope: set_name(scope) + ", by image" * is_beside({"scope": scope}, scopes) for scope in scopes}
    return {name: paths.read_json(paths.pooled_metrics(f"{scope}_calibrated")) for scope, name in names.items()}


def status_line(bundle: Path) -> str:
    """Say how many gates a released model passed, and name the others."""
    status, *lines = (bundle / "STATUS").read_text().splitlines()
    gates = [json.loads(line) for line in lines]
    failed = [gate["name"] for gate in gates if not gate["passed"]]
    missed = f"; failed: {', '.join(failed)}" if failed else ""
    return f"status: {status}; {len(gates) - len(failed)} of {len(gates)} gates passed{missed}"


def read_these_metrics(stage: str) -> bool:
    """Check in dvc.lock whether a stage read the present outputs of `calibrate`; without dvc.lock it did."""
    stages = locked_stages()
    written = {out["path"]: out.get("md5") for out in stages.get("calibrate", {}).get("outs", [])}
    read = {dep["path"]: dep.get("md5") for dep in stages.get(stage, {}).get("deps", [])}
    return all(written[path] == read[path] for path in written.keys() & read.keys())


def metric_lines(sets: Sets, metrics: Mapping[str, str]) -> list[str]:
    """Write a table with a line for each set: patients, events and metrics with their intervals."""
    head = ["", "patients", "predictions", "events", *metrics.values()]
    return padded([head, *([name, *cells_of(found, metrics)] for name, found in sets.items())])


def cells_of(found: Mapping[str, Any], metrics: Mapping[str, str]) -> list[str]:
    """Write the counts and metrics of a set; events are those of two classes, or of times."""
    counted = ("calibration_intercept" in found or "uno_c" in found) and "events" in found
    counts = [str(found["patients"]), str(found["n"]), str(found["events"]) if counted else ""]
    return [*counts, *(metric_in_words(found[metric]) if metric in found else "" for metric in metrics)]


def padded(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad the cells of rows to the width of their columns."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
