"""Fit and apply the recalibration of a site (`predict --site-recalibrate`, `--calibration`)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.columns import typical_inputs
from pipeline.bundle.decision import Rule, sets_at_site
from pipeline.bundle.layout import METADATA
from pipeline.bundle.manifest import MANIFEST, sha256_of
from pipeline.bundle.predictor import Prediction, Predictor
from pipeline.commands.labels import flaw_in, numbers_of, written_as
from pipeline.commands.predict.inputs import inputs_of
from pipeline.commands.predict.label_updates import update_labels
from pipeline.commands.predict.site_update import SiteUpdate, update_site
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Listed
from pipeline.metrics.conformal import Thresholds, fewest
from pipeline.progress import progress
from pipeline.stages.release.card import show_metric

Found = SiteUpdate | dict[str, SiteUpdate | None]
Floats = NDArray[np.float64]


def recalibrate(
    bundle: Path, predictor: Predictor, scans: Sequence[Listed], out: str | None, *, force: bool = False
) -> None:
    """Fit a recalibration to labelled scans, print metrics before and after, and write it to `out` if it helps."""
    classes, several = predictor.classes, predictor.multilabel
    if not out:
        raise UserError("--site-recalibrate needs --out, e.g. --out our_hospital.json")
    check_labels(scans, classes, several)
    found_of_scans, kept = scored(predictor, scans)
    logits = np.array([one.logits for one in found_of_scans])
    labels = numbers_of([scan.known["label"] for scan in kept], classes, several)
    patients = np.array([scan.known.get("patient") or scan.name for scan in kept])
    fit, probabilities = update_labels if several else update_site, predictor.calibrator.apply(logits)
    try:
        found = fit(probabilities, labels, patients, classes)
    except ValueError as error:
        raise UserError(f"--site-recalibrate: {error}") from error
    unit = "patients" if "patient" in kept[0].known else "scans, each counted as one patient"
    print_updates(found, len(kept), unit)
    found = found if force else helpful(found)
    rules = predictor.limits.rules if predictor.limits else []
    sets = {one.label: sets_at_site(one, probabilities, labels, patients, classes=classes) for one in rules}
    print_sets(rules, sets)
    made_for = {"name": json.loads((bundle / METADATA).read_text())["name"], "manifest": sha256_of(bundle / MANIFEST)}
    refitted = {label: one.as_json() for label, one in sets.items() if one}
    content = {"bundle": made_for, "scans": len(kept), **as_json(found), "sets": refitted}
    Path(out).write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {out}; use it with --calibration {out}. The bundle is unchanged.")


def scored(
    predictor: Predictor, scans: Sequence[Listed], typical: bool = False
) -> tuple[list[Prediction], list[Listed]]:
    """Predict the scans that can be read, with typical columns if that is enough; print why the others cannot."""
    predictions, kept = [], []
    for scan in progress(scans, "score"):
        inputs = typical_inputs(predictor.fusion) if typical else inputs_of(scan, predictor.fusion)
        found = predictor(scan.file, scan.known.get("site"), inputs, mask=scan.mask)
        if found.output is None:
            print(f"left out: {scan.name}: {found.reason}")
            continue
        predictions.append(found)
        kept.append(scan)
    if not kept:
        raise UserError("no scan could be read; see the reasons above")
    return predictions, kept


def check_labels(scans: Sequence[Listed], classes: Sequence[str], several: bool) -> None:
    """Check that every scan has a label and that the model knows its classes."""
    for scan in scans:
        if what := flaw_in(scan.known.get("label", ""), classes, several):
            raise UserError(f"--site-recalibrate: {scan.name}: {what}; {written_as(classes, several)}")


def helpful(found: Found) -> Found:
    """Select the updates that lower the log-loss; each other label stays unchanged.

    Raises
    ------
    UserError
        If no update does.
    """
    several = {"": found} if isinstance(found, SiteUpdate) else found
    kept = {name: one if one and one.helps else None for name, one in several.items()}
    if not any(kept.values()):
        raise UserError(
            "--site-recalibrate: nothing is written, because no update lowers the log-loss of patients on whom it was "
            "not fitted; use the bundle as it is, label more scans, or write it nevertheless with --force"
        )
    if worse := [name for name, one in several.items() if one and not one.helps]:
        print(f"left unchanged, because the log-loss does not become lower: {', '.join(worse)} (--force updates all)")
    return found if isinstance(found, SiteUpdate) else kept


def as_json(found: Found) -> dict[str, Any]:
    """Return plain values; those of a multilabel model under `labels`, null for a label that stays unchanged."""
    if isinstance(found, SiteUpdate):
        return found.as_json()
    return {"labels": {name: one.as_json() if one else None for name, one in found.items()}}


def print_sets(rules: Sequence[Rule], sets: Mapping[str, Thresholds | None]) -> None:
    """Say which prediction sets hold for the site, and which stay those of the release."""
    for rule in rules:
        share, least = f"{1 - rule.sets.alpha:.0%}", fewest(rule.sets.alpha)
        done = (
            f"refitted, so that they hold the truth for {share} of the patients of this site"
            if sets[rule.label]
            else f"those of the release; a promise of {share} takes {least} labelled patients"
        )
        print(f"prediction sets{f' of {rule.label}' if rule.label else ''}: {done}")


def print_updates(found: Found, scans: int, unit: str) -> None:
    """Print the recalibration (of each label) with its intervals, and the metrics before and after."""
    if isinstance(found, SiteUpdate):
        print_update(found, f"{scans} scans; {unit}")
        return
    print(f"{scans} scans")
    for name, one in found.items():
        if one:
            print_update(one, f"{name}; {unit}")
        else:
            print(f"{name}: unchanged; it needs two or more labelled patients with it and two or more without it")


def print_update(found: SiteUpdate, title: str) -> None:
    """Print one recalibration."""
    print(f"{title}: " + ", ".join(f"{n} {name}" for name, n in found.patients.items()))
    print(
        f"updated: {found.update}"
        + ("" if "slope" in found.update else " (too few patients of a class to fit the slope)")
    )
    for name, metric in found.intervals.items():
        print(f"  {name}: {show_metric(metric)}")
    print(
        "on these scans, before and after (cross-fitted: each patient is predicted by an update fitted on the others):"
    )
    for name, metric in found.before.items():
        print(f"  {name}: {show_metric(metric)} -> {show_metric(found.after[name])}")
    print(f"the update {'lowers' if found.helps else 'does NOT lower'} the log-loss on these scans")
