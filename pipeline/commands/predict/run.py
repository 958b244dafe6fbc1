"""Predict scans with a released bundle: calibrated probabilities, prediction sets and reasons for abstaining."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import runtime
from pipeline.bundle.layout import LIMITS, METADATA
from pipeline.bundle.limits import Limits
from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.opening import Opened, open_bundle
from pipeline.bundle.scoring import BadModel, Look, looks_by
from pipeline.bundle.zipped import unpacked
from pipeline.commands.predict.saliency_files import overlays_by
from pipeline.commands.predict.site_calibration import Change, recalibrate, recalibration_in
from pipeline.errors import UserError
from pipeline.imaging.appearance import appearance
from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.tables.cohort_table import BadTable
from pipeline.imaging.tables.scan_list import Listed, list_scans
from pipeline.metrics.calibrators.calibrator import Calibrator, calibrator_from

BAD_IMAGE = "bad image"
Row = dict[str, Any]
Probabilities = NDArray[np.float64]


def run(arguments: argparse.Namespace) -> None:
    """Predict the scans, or recalibrate for a site; print the result and write it to --out."""
    try:
        with unpacked(Path(arguments.bundle)) as folder:
            predict(folder, arguments)
    except (BrokenBundle, BadModel) as error:
        raise UserError(str(error)) from error


def predict(folder: Path, arguments: argparse.Namespace) -> None:
    """Run the command on the bundle in a folder."""
    bundle = open_bundle(folder)
    check_site(arguments.site, sites_of(bundle))
    look, calibrator = looks_by(bundle.network, bundle.weights, bundle.preparation), calibrator_of(bundle)
    if arguments.site_recalibrate:
        scans = listed([arguments.site_recalibrate], bundle, arguments.site)
        recalibrate(folder, bundle.classes, scans, calibrator=calibrator, look=look, out=arguments.out)
        return
    several = calibrator.activation == "sigmoid"
    asked = arguments.calibration
    update = recalibration_in(Path(asked), folder, bundle.classes, several) if asked else None
    scans, limits = listed(arguments.scans, bundle, arguments.site), limits_in(folder)
    overlay = overlays_by(bundle, Path(arguments.saliency), scans) if arguments.saliency else None

    def row(scan: Listed) -> Row:
        try:
            seen = look(scan.file, scan.known.get("site"))
        except Unreadable as error:
            return refused(scan, bundle, error)
        found = scored(seen, bundle.classes, calibrator=calibrator, update=update, limits=limits)
        drawn = {"saliency": overlay(scan, seen)} if overlay else {}
        return named(scan) | found | drawn | {"model_status": bundle.status}

    table = in_order([row(scan) for scan in runtime.progress(scans, "predict")], bundle.classes)
    print_predictions(table, bundle)
    if arguments.out:
        table.to_csv(arguments.out, index=False)
    if (table["abstains"] == BAD_IMAGE).all():
        raise UserError("no scan could be read; see the reasons above")


def check_site(site: str | None, known: list[str]) -> None:
    """Reject a site that the model does not know; if it needs a site and none is given, say what follows."""
    if site and known and site not in known:
        raise UserError(f"--site: the model does not know '{site}'; choose one of {', '.join(known)}")
    if site and not known:
        raise UserError(f"--site {site}: the model has no separate parameters for sites; leave --site out")
    if known and not site:
        print(f"no --site given: scans without a known site ({', '.join(known)}) are treated as from an unknown site")


def listed(paths: list[str], bundle: Opened, site: str | None) -> list[Listed]:
    """List the scans in order; the site in a table takes precedence over --site."""
    kind: Any = bundle.kind
    try:
        scans = [scan for path in paths for scan in list_scans(Path(path), kind)]
    except BadTable as error:
        raise UserError(str(error)) from error
    if not scans:
        raise UserError("name a scan, a folder of scans, or a .csv file with the column image")
    default = {"site": site} if site else {}
    return [Listed(scan.name, scan.file, {**default, **scan.known}) for scan in scans]


def sites_of(bundle: Opened) -> list[str]:
    """List the sites that have separate parameters in the network or in a member of the ensemble."""
    members = bundle.network.get("members", [bundle.network])
    return list(dict.fromkeys(site for one in members for site in one.get("sites", [])))


def calibrator_of(bundle: Opened) -> Calibrator:
    """Build the calibrator of the bundle."""
    try:
        return calibrator_from(bundle.calibrator)
    except ValueError as error:
        raise UserError(
            f"{METADATA} of the bundle: {error}; update medadapt, or get the bundle from its source again"
        ) from error


def limits_in(folder: Path) -> Limits | None:
    """Read the operating limits; None for an early release, which has none."""
    file = folder / LIMITS
    if not file.exists():
        print(f"{folder} has no operating limits: no prediction sets, and the model never abstains")
        return None
    try:
        return Limits.from_json(json.loads(file.read_text())["limits"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} has another format than this version of medadapt writes ({error}); use that in MANIFEST.json, "
            "release the model again, or get the bundle from its source again"
        ) from error


def scored(
    seen: Look, classes: list[str], *, calibrator: Calibrator, update: Change | None, limits: Limits | None
) -> Row:
    """Compute the probabilities of a scan, its prediction set and whether the model abstains.

    The operating limits were set on the released probabilities. A recalibration for a site therefore changes neither
    the set nor the confidence.
    """
    released = calibrator.apply(seen.logits[None])
    shown = update.apply(released)[0] if update else released[0]
    row: Row = dict(zip(classes, shown, strict=True))
    if limits is None:
        return row | {"abstains": "", "reason": ""}
    verdict = limits.evaluate(seen.logits, seen.features, appearance(seen.prepared.channels), released[0], classes)
    return row | {
        "set": verdict.members,
        "abstains": "; ".join(verdict.abstains),
        "reason": verdict.reason,
        "ood_score": verdict.score,
        "nearest_site": verdict.nearest_site,
        "site_share": verdict.site_share,
    }


def refused(scan: Listed, bundle: Opened, error: Unreadable) -> Row:
    """Give the row of a scan that cannot be read."""
    why = f"{error.finding.check}: {error.finding.detail}"
    nothing = dict.fromkeys(bundle.classes)
    return named(scan) | nothing | {"abstains": BAD_IMAGE, "reason": why, "model_status": bundle.status}


def named(scan: Listed) -> Row:
    """Identify a scan by its name and by what a table says of it."""
    return {"scan": scan.name, **{name: scan.known[name] for name in ("case", "patient", "site") if name in scan.known}}


def in_order(rows: list[Row], classes: list[str]) -> pd.DataFrame:
    """Build a table whose column order does not depend on the order of the scans."""
    order = ["scan", "case", "patient", "site", *classes, "set", "abstains", "reason", "ood_score", "nearest_site"]
    order += ["site_share", "saliency", "model_status"]
    table = pd.DataFrame(rows)
    return table[[name for name in order if name in table]]


def print_predictions(table: pd.DataFrame, bundle: Opened) -> None:
    """Print the table, and for how many scans the model abstains and why."""
    bad = table["abstains"] == BAD_IMAGE
    why = table["reason"].mask(bad, BAD_IMAGE + ": " + table["reason"])
    columns = [name for name in ("scan", *bundle.classes, "set") if name in table]
    shown = table[columns].assign(**{"reason for abstaining": why})
    print(shown.to_string(index=False, float_format=lambda value: f"{value:.4f}", na_rep=""))
    abstained = table["abstains"].value_counts().drop("", errors="ignore")
    counts = [f"{n} {why}" for why, n in abstained.items()]
    total = int(abstained.sum())
    print(f"scans: {len(table)}, abstained: {total}" + (f" ({', '.join(counts)})" if counts else ""))
    print(f"model status: {bundle.status}; research use only, not a medical device")
