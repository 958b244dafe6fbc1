"""Refit the out-of-distribution limits to unlabelled scans of a new site (`predict --site-adapt`, `--adaptation`)."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.layout import METADATA
from pipeline.bundle.limits import OperatingLimits, ScanOutput
from pipeline.bundle.predictor import Predictor
from pipeline.commands.predict.site_calibration import scored
from pipeline.commands.site_limits import checksum, digest_of
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Listed
from pipeline.metrics.ood import SCORES

FEWEST = 5  # patients, for means and spreads of the site
Names = NDArray[np.str_]


def adapt_to_site(
    bundle: Path, predictor: Predictor, scans: Sequence[Listed], out: str | None, *, force: bool = False
) -> None:
    """Refit the limits to the scans of a site, print how many patients they flag before and after, and write them.

    Parameters
    ----------
    force : bool
        Whether to refit them even to scans that look like corrupted ones.

    Raises
    ------
    UserError
        If there are too few patients, the scans show something else than the development scans, or the model has no
        limits.
    """
    if not out:
        raise UserError("--site-adapt needs --out, e.g. --out our_hospital.json")
    limits = predictor.limits
    if limits is None or limits.detector.threshold is None:
        raise UserError("--site-adapt: the model has no out-of-distribution limit, so that there is nothing to refit")
    predictions, kept = scored(predictor, scans, typical=True)  # the limits look at the scan alone
    outputs = [one.output for one in predictions if one.output]
    patients = np.array([scan.known.get("patient") or scan.name for scan in kept])
    count = len(set(patients))
    if count < FEWEST:
        raise UserError(f"--site-adapt: {count} patients are too few; give unlabelled scans of at least {FEWEST}")
    if not force:
        refuse_foreign(limits, outputs)
    before, after = flagged(limits, outputs, patients), flagged_by_others(limits, outputs, patients)
    print(f"{len(kept)} scans of {count} patients")
    print(f"out of distribution: {before} patients before, {after} after (each by limits refitted to the others)")
    content = {
        "bundle": {"name": json.loads((bundle / METADATA).read_text())["name"], "manifest": digest_of(bundle)},
        "patients": count,
        "limits": limits.at_site(outputs, patients.tolist()).as_json(),
    }
    Path(out).write_text(json.dumps(content | {"sha256": checksum(content)}, indent=2) + "\n")
    print(f"written to {out}; use it with --adaptation {out}. The bundle is unchanged.")


def refuse_foreign(limits: OperatingLimits, outputs: Sequence[ScanOutput]) -> None:
    """Refuse scans whose appearance is as far from the development scans as that of corrupted scans."""
    typical = float(np.median(limits.detector.scaled(limits.scores(outputs))[:, SCORES.index("appearance")]))
    if limits.foreign is not None and typical >= limits.foreign:
        raise UserError(
            f"--site-adapt: the scans look like corrupted scans or another part of the body (appearance score "
            f"{typical:.2f}, limit {limits.foreign:.2f}); look at them with --report; if they are what the model was "
            "made for, repeat with --force"
        )


def flagged(limits: OperatingLimits, outputs: Sequence[ScanOutput], patients: Names) -> int:
    """Count the patients of whom a scan is out of distribution."""
    return len(set(patients[limits.detector.is_ood(limits.detector.ood_score(limits.scores(outputs)))]))


def flagged_by_others(limits: OperatingLimits, outputs: Sequence[ScanOutput], patients: Names) -> int:
    """Count the patients whom limits refitted to the other patients flag."""
    found = 0
    for patient in np.unique(patients):
        own = patients == patient
        rest, mine = ([one for one, wanted in zip(outputs, rows, strict=True) if wanted] for rows in (~own, own))
        found += flagged(limits.at_site(rest, patients[~own].tolist()), mine, patients[own])
    return found
