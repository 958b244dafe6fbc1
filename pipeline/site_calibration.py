"""predict --site-recalibrate and --calibration: the calibration of one site, beside a bundle that stays what it is."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import engine
from pipeline.assessing.calibrating.calibration_maps import Calibrator
from pipeline.assessing.calibrating.site_update import SiteUpdate, change_from, update_site
from pipeline.assessing.calibrating.updating import Recalibration
from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.scan_list import Listed
from pipeline.refusal import Refusal
from pipeline.releasing.bundle import METADATA
from pipeline.releasing.manifest import MANIFEST, sha256_of
from pipeline.scoring import Look

LooksAt = Callable[[Path, str | None], Look]


def recalibrate(
    bundle: Path,
    classes: Sequence[str],
    calibrator: Calibrator,
    look: LooksAt,
    scans: Sequence[Listed],
    out: str | None,
) -> None:
    """Fit the update to labelled scans, print what it is worth, and write it to `out` for `--calibration`."""
    if calibrator.activation == "sigmoid":
        raise Refusal("--site-recalibrate: the labels of this model stand each by itself, which is not updated yet")
    if not out:
        raise Refusal("--site-recalibrate: name the file to be written with --out, e.g. --out our_hospital.json")
    refuse_labels(scans, classes)
    logits, kept = [], []
    for scan in engine.progress(scans, "score"):
        try:
            logits.append(look(scan.file, scan.known.get("site")).logits)
            kept.append(scan)
        except Unreadable as error:
            print(f"left out: {scan.name}: {error.finding.check}: {error.finding.detail}")
    if not kept:
        raise Refusal("no scan could be scored; the reasons stand above")
    labels = np.array([classes.index(scan.known["label"]) for scan in kept])
    patients = np.array([scan.known.get("patient") or scan.name for scan in kept])
    try:
        found = update_site(calibrator.apply(np.array(logits)), labels, patients, classes)
    except ValueError as error:
        raise Refusal(f"--site-recalibrate: {error}") from error
    tell(found, len(kept), "patients" if "patient" in kept[0].known else "scans, each taken for a patient")
    made_for = {"name": json.loads((bundle / METADATA).read_text())["name"], "manifest": sha256_of(bundle / MANIFEST)}
    Path(out).write_text(json.dumps({"bundle": made_for, "scans": len(kept), **found.as_json()}, indent=2) + "\n")
    print(f"{out}: use it with --calibration {out}; the bundle is what it was")


def refuse_labels(scans: Sequence[Listed], classes: Sequence[str]) -> None:
    """Make sure that every scan has a label, and that the model knows it."""
    for scan in scans:
        if scan.known.get("label") not in classes:
            label = scan.known.get("label")
            what = f"'{label}' is no class of this model" if label else "it has no label"
            raise Refusal(f"--site-recalibrate: {scan.name}: {what}; the column label takes {', '.join(classes)}")


def tell(found: SiteUpdate, scans: int, unit: str) -> None:
    """Print the update with its intervals, and the figures before and after."""
    counts = ", ".join(f"{n} {name}" for name, n in found.patients.items())
    print(f"{scans} scans; {unit}: {counts}")
    print(f"updated: {found.update}" + ("" if "slope" in found.update else " (too few of a class for the slope)"))
    for name, figure in found.intervals.items():
        print(f"  {name}: {_shown(figure)}")
    print("on these scans, before and after (cross-fitted: no patient is judged by an update fitted on him):")
    for name, figure in found.before.items():
        print(f"  {name}: {_shown(figure)} -> {_shown(found.after[name])}")


def recalibration_in(file: Path, bundle: Path) -> Recalibration:
    """Read an update that `recalibrate` wrote, and make sure that it was fitted to this very bundle.

    Raises
    ------
    Refusal
        If it is not there, is something else, or belongs to another release.
    """
    again = f"make it with `python -m pipeline predict {bundle} --site-recalibrate labels.csv --out {file}`"
    try:
        values = json.loads(file.read_text())
        n_classes, made_for = len(values["patients"]), values["bundle"]["manifest"]
        change = change_from(values, n_classes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"--calibration: {file} is no calibration of a site ({error}); {again}") from error
    if made_for != sha256_of(bundle / MANIFEST):
        raise Refusal(f"--calibration: {file} was fitted to another release than {bundle}; {again}")
    return change


def _shown(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "not computable"
    interval = "" if figure["lower"] is None else f" ({figure['lower']:.3f} to {figure['upper']:.3f})"
    return f"{figure['value']:.3f}{interval}"
