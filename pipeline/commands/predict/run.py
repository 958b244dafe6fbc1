"""predict: a released bundle on new scans, from the file to calibrated probabilities, or the reason why not."""

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
    """Print one line per scan and write them to --out; or fit the calibration of a site to its labelled scans."""
    try:
        with unpacked(Path(arguments.bundle)) as folder:
            predict(folder, arguments)
    except (BrokenBundle, BadModel) as error:
        raise UserError(str(error)) from error


def predict(folder: Path, arguments: argparse.Namespace) -> None:
    """Do what is asked with the bundle in a folder."""
    bundle = open_bundle(folder)
    refuse_site(arguments.site, sites_of(bundle))
    look, calibrator = looks_by(bundle.network, bundle.weights, bundle.preparation), calibrator_of(bundle)
    if arguments.site_recalibrate:
        scans = listed([arguments.site_recalibrate], bundle, arguments.site)
        recalibrate(folder, bundle.classes, calibrator, look, scans, arguments.out)
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
        found = scored(seen, bundle.classes, calibrator, update, limits)
        drawn = {"saliency": overlay(scan, seen)} if overlay else {}
        return named(scan) | found | drawn | {"model_status": bundle.status}

    table = in_order([row(scan) for scan in runtime.progress(scans, "predict")], bundle.classes)
    tell(table, bundle)
    if arguments.out:
        table.to_csv(arguments.out, index=False)
    if (table["abstains"] == BAD_IMAGE).all():
        raise UserError("no scan could be scored; the reasons stand above")


def refuse_site(site: str | None, known: list[str]) -> None:
    """Refuse a site that a model with values of its own for each does not know; say what none means."""
    if site and known and site not in known:
        raise UserError(f"--site: '{site}' is no site of this model; the model knows {', '.join(known)}")
    if site and not known:
        raise UserError(
            f"--site: '{site}' is no site of this model; the model is the same for every site; leave it out"
        )
    if known and not site:
        print(f"no --site given: scans of which a table does not say one of {', '.join(known)} are of another site")


def listed(paths: list[str], bundle: Opened, site: str | None) -> list[Listed]:
    """List the scans that are named, in order; the site of a table goes before --site."""
    kind: Any = bundle.kind
    try:
        scans = [scan for path in paths for scan in list_scans(Path(path), kind)]
    except BadTable as error:
        raise UserError(str(error)) from error
    if not scans:
        raise UserError("name a scan, a folder of scans, or a table (.csv) with a column image")
    default = {"site": site} if site else {}
    return [Listed(scan.name, scan.file, {**default, **scan.known}) for scan in scans]


def sites_of(bundle: Opened) -> list[str]:
    """Name the sites that have values of their own in the network, or in a member of it."""
    members = bundle.network.get("members", [bundle.network])
    return list(dict.fromkeys(site for one in members for site in one.get("sites", [])))


def calibrator_of(bundle: Opened) -> Calibrator:
    """Make the map from logits to probabilities."""
    try:
        return calibrator_from(bundle.calibrator)
    except ValueError as error:
        raise UserError(
            f"{METADATA} of the bundle: {error}; update medadapt, or take the bundle from its source"
        ) from error


def limits_in(folder: Path) -> Limits | None:
    """Read the limits of use; releases from before there were any have none."""
    file = folder / LIMITS
    if not file.exists():
        print(f"{folder} is a release without limits of use: no sets, and nothing is held back")
        return None
    try:
        return Limits.from_json(json.loads(file.read_text())["limits"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} is not what this medadapt writes ({error}); release the model anew, use the version of medadapt "
            "that its MANIFEST.json names, or take the bundle from its source again"
        ) from error


def scored(seen: Look, classes: list[str], calibrator: Calibrator, update: Change | None, limits: Limits | None) -> Row:
    """Tell the probabilities of a scan, and what the limits say of it.

    The limits hold for the probabilities of the release: they were set on them, so an update for a site leaves sets
    and confidence what they are.
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
    """Tell why a scan has no probabilities."""
    why = f"{error.finding.check}: {error.finding.detail}"
    nothing = dict.fromkeys(bundle.classes)
    return named(scan) | nothing | {"abstains": BAD_IMAGE, "reason": why, "model_status": bundle.status}


def named(scan: Listed) -> Row:
    """Name a scan as the user does."""
    return {"scan": scan.name, **{name: scan.known[name] for name in ("case", "patient", "site") if name in scan.known}}


def in_order(rows: list[Row], classes: list[str]) -> pd.DataFrame:
    """Put rows into a table, whose columns do not depend on which scan came first."""
    order = ["scan", "case", "patient", "site", *classes, "set", "abstains", "reason", "ood_score", "nearest_site"]
    order += ["site_share", "saliency", "model_status"]
    table = pd.DataFrame(rows)
    return table[[name for name in order if name in table]]


def tell(table: pd.DataFrame, bundle: Opened) -> None:
    """Print the table, and how many answers it holds."""
    bad = table["abstains"] == BAD_IMAGE
    why = table["reason"].mask(bad, BAD_IMAGE + ": " + table["reason"])
    columns = [name for name in ("scan", *bundle.classes, "set") if name in table]
    shown = table[columns].assign(**{"abstains, since": why})
    print(shown.to_string(index=False, float_format=lambda value: f"{value:.4f}", na_rep=""))
    held = table["abstains"].value_counts().drop("", errors="ignore")
    counts = [f"{n} {why}" for why, n in held.items()]
    print(f"scans: {len(table)}, answered: {len(table) - int(held.sum())}" + "".join(f", {one}" for one in counts))
    print(f"model status: {bundle.status}; research use only, not a medical device")
