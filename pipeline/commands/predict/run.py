"""Predict scans with a released bundle: calibrated probabilities, prediction sets and reasons for abstaining."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.opening import Opened, open_bundle
from pipeline.bundle.predictor import BAD_IMAGE, Predictor
from pipeline.bundle.scoring import BadModel
from pipeline.bundle.zipped import unpacked
from pipeline.commands.predict.saliency_files import Overlays
from pipeline.commands.predict.site_calibration import recalibrate, recalibration_in
from pipeline.errors import UserError
from pipeline.imaging.tables.cohort_table import BadTable
from pipeline.imaging.tables.scan_list import Listed, list_scans
from pipeline.progress import progress

Row = dict[str, Any]


def run(arguments: argparse.Namespace) -> None:
    """Predict the scans, or recalibrate for a site; print the result and write it to --out."""
    try:
        with unpacked(Path(arguments.bundle)) as folder:
            predict(folder, arguments)
    except (BrokenBundle, BadModel) as error:
        raise UserError(str(error)) from error


def predict(folder: Path, arguments: argparse.Namespace) -> None:
    """Predict the scans with the bundle in a folder, or recalibrate it for a site."""
    bundle = open_bundle(folder)
    check_site(arguments.site, bundle.sites)
    named = [arguments.site_recalibrate] if arguments.site_recalibrate else arguments.scans
    scans, predictor = listed(named, bundle, arguments.site), Predictor.from_opened(bundle)
    if arguments.site_recalibrate:
        recalibrate(folder, predictor, scans, arguments.out)
        return
    if arguments.calibration:
        change = recalibration_in(Path(arguments.calibration), folder, bundle.classes, predictor.multilabel)
        predictor = predictor.recalibrated(change)
    if predictor.limits is None:
        print(f"{folder} has no operating limits: no prediction sets, and the model never abstains")
    overlays = Overlays(bundle, Path(arguments.saliency), scans) if arguments.saliency else None
    rows = [row_of(scan, predictor, overlays) for scan in progress(scans, "predict")]
    table = in_order(rows, bundle.classes)
    print_predictions(table, bundle)
    if arguments.out:
        table.to_csv(arguments.out, index=False)
    if (table["abstains"] == BAD_IMAGE).all():
        raise UserError("no scan could be read; see the reasons above")


def check_site(site: str | None, known: Sequence[str]) -> None:
    """Reject a site that the model does not know; if it needs a site and none is given, say what follows."""
    if site and known and site not in known:
        raise UserError(f"--site: the model does not know '{site}'; choose one of {', '.join(known)}")
    if site and not known:
        raise UserError(f"--site {site}: the model has no separate parameters for sites; leave --site out")
    if known and not site:
        print(f"no --site given: scans whose site is not one of {', '.join(known)} use the values for unknown sites")


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


def row_of(scan: Listed, predictor: Predictor, overlays: Overlays | None) -> Row:
    """Predict a scan and write its row of the table."""
    found = predictor(scan.file, scan.known.get("site"))
    row: Row = names_of(scan) | dict(found.probabilities or dict.fromkeys(predictor.classes))
    row |= {"abstains": "; ".join(found.abstains), "reason": found.reason, "model_status": predictor.status}
    if found.output is None:
        return row
    if predictor.limits is not None:
        row |= {name: getattr(found, name) for name in ("set", "ood_score", "nearest_site", "site_share")}
    return row | ({"saliency": overlays.write(scan, found.output)} if overlays else {})


def names_of(scan: Listed) -> Row:
    """Name a scan as the user does."""
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
