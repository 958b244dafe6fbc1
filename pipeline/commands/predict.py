"""predict: a released bundle on new scans, from the file to calibrated probabilities."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import engine
from pipeline.assessing.calibrating.calibration_maps import calibrator_from
from pipeline.imaging.reading.scan import Unreadable
from pipeline.refusal import Refusal
from pipeline.releasing.bundle import METADATA, Opened, open_bundle
from pipeline.releasing.manifest import BrokenBundle
from pipeline.scoring import logits_by


def run(arguments: argparse.Namespace) -> None:
    """Print one line per scan, and write them to --out."""
    try:
        bundle = open_bundle(Path(arguments.bundle))
    except BrokenBundle as error:
        raise Refusal(str(error)) from error
    known = sites_of(bundle)
    if arguments.site and arguments.site not in known:
        told = f"the model knows {', '.join(known)}" if known else "the model is the same for every site; leave it out"
        raise Refusal(f"--site: '{arguments.site}' is no site of this model; {told}")
    if known and not arguments.site:
        print(f"no --site given: the model takes the scans for those of a site other than {', '.join(known)}")
    score = scorer(bundle, arguments.site)
    rows = [row_of(Path(scan), bundle, score) for scan in engine.progress(arguments.scans, "predict")]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    print(f"model status: {bundle.status}; research use only, not a medical device")
    if arguments.out:
        table.to_csv(arguments.out, index=False)
    if (table["reason"] != "").all():
        raise Refusal("no scan could be scored; the reasons stand above")


def sites_of(bundle: Opened) -> list[str]:
    """Name the sites that have values of their own in the network, or in a member of it."""
    members = bundle.network.get("members", [bundle.network])
    return list(dict.fromkeys(site for one in members for site in one.get("sites", [])))


def scorer(bundle: Opened, site: str | None = None) -> Callable[[Path], NDArray[np.float64]]:
    """Load a bundle's network once and return the function from a scan's file to its calibrated probabilities."""
    logits = logits_by(bundle.network, bundle.weights, bundle.preparation, site)
    try:
        calibrator = calibrator_from(bundle.calibrator)
    except ValueError as error:
        raise Refusal(
            f"{METADATA} of the bundle: {error}; update medadapt, or take the bundle from its source"
        ) from error
    return lambda file: calibrator.apply(logits(file)[None])[0]


def row_of(file: Path, bundle: Opened, score: Callable[[Path], NDArray[np.float64]]) -> dict[str, object]:
    """Score one scan, or say why not; a multilabel model gives each label a probability of its own."""
    probabilities, reason = [None] * len(bundle.classes), ""
    try:
        probabilities = list(score(file))
    except Unreadable as error:
        reason = f"{error.finding.check}: {error.finding.detail}"
    forecast = dict(zip(bundle.classes, probabilities, strict=True))
    return {"scan": file.name, **forecast, "reason": reason, "model_status": bundle.status}
