"""Adjust a model to the prevalences of a new site, estimated from unlabelled scans (`predict --site-prevalence`)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from pipeline.bundle.layout import METADATA
from pipeline.bundle.monitoring_reference import monitored_classes
from pipeline.bundle.predictor import Prediction, Predictor
from pipeline.commands.predict.site_calibration import scored
from pipeline.commands.site_limits import digest_of
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Listed
from pipeline.metrics.calibrators.updating import Recalibration
from pipeline.metrics.prevalence import TEST_LEVEL, Prevalences, estimate_prevalences

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

FEWEST = 20  # patients; with fewer, an interval of a prevalence is wider than most differences between hospitals


def adjust_to_prevalence(
    bundle: Path,
    predictor: Predictor,
    scans: Sequence[Listed],
    out: str | None,
    *,
    reference: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Estimate the prevalences, print them, and write the recalibration that they ask for.

    Parameters
    ----------
    reference : mapping
        Of `monitoring_reference.reference_of`.
    force : bool
        Whether to write it even where the scans or the predictions differ in more than prevalence.

    Raises
    ------
    UserError
        If there are too few patients, the task has no exclusive classes, or more than the prevalence differs or nothing
        does, so that nothing is written.
    """
    if not out:
        raise UserError("--site-prevalence needs --out, e.g. --out our_hospital.json")
    if predictor.multilabel:
        raise UserError("--site-prevalence needs classes that exclude each other; this model gives several labels")
    if not {"of_class", "prevalences_of_images"} <= set(reference):
        raise UserError("--site-prevalence: the bundle is of an earlier version; release the model again")
    predictions, kept = scored(predictor, scans)
    patients = np.array([scan.known.get("patient") or scan.name for scan in kept])
    if (count := len(set(patients))) < FEWEST:
        raise UserError(f"--site-prevalence: {count} patients are too few; give unlabelled scans of at least {FEWEST}")
    classes = list(predictor.classes)
    prior, of_images = (
        np.array([reference[key][name] for name in classes]) for key in ("prevalences", "prevalences_of_images")
    )
    probabilities = predictor.calibrator.apply(np.array([one.logits for one in predictions]))
    known = [columns_of(reference["of_class"][truth], classes) for truth in classes]
    found = estimate_prevalences(probabilities, patients, prior, known, of_images=of_images)
    print_prevalences(found, prior, classes, f"{len(kept)} scans of {count} patients")
    if not force:
        refuse_other_changes(predictor, predictions, patients)
        refuse_no_change(found)
    moved = np.maximum(found.nearest_to(prior), 0.5 / count)
    print("corrected to: " + ", ".join(f"{name} {share:.2f}" for name, share in zip(classes, moved, strict=True)))
    change = Recalibration(tuple(np.log(moved / prior).tolist()), 1.0)
    content = {
        "bundle": {"name": json.loads((bundle / METADATA).read_text())["name"], "manifest": digest_of(bundle)},
        "scans": len(kept),
        "update": "prevalence",
        "change": {"intercepts": list(change.intercepts), "slope": change.slope},
    }
    Path(out).write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {out}; use it with --calibration {out}. The bundle is unchanged.")


def columns_of(sorted_values: Mapping[str, Sequence[float]], classes: Sequence[str]) -> Floats:
    """Return the probabilities (K, m) of each class, from those that are stored."""
    (name, values), *others = sorted_values.items()
    if others or monitored_classes(classes, several=False) != [name]:
        return np.array([sorted_values[name] for name in classes])
    return np.array([1 - np.array(values), values])


def refuse_other_changes(predictor: Predictor, predictions: Sequence[Prediction], patients: Names) -> None:
    """Refuse scans that look different: a change of the scanner moves predictions as another prevalence does."""
    limits = predictor.limits
    if limits is None or limits.detector.threshold is None:
        raise UserError(
            "--site-prevalence: the model has no out-of-distribution limit, so that another scanner cannot be told "
            "from another prevalence; use --site-recalibrate with labels, or repeat with --force"
        )
    scores = limits.scores([one.output for one in predictions if one.output])
    flagged = len(set(patients[limits.detector.is_ood(limits.detector.ood_score(scores))]))
    count, rate = len(set(patients)), limits.detector.rate
    if binom.sf(flagged - 1, count, rate) < TEST_LEVEL:
        raise UserError(
            f"--site-prevalence: nothing is written, because {flagged} of {count} patients are out of distribution "
            f"({rate:.0%} expected); the scans themselves differ, which moves predictions as another prevalence does. "
            "Use --site-recalibrate with labels of this site"
        )


def refuse_no_change(found: Prevalences) -> None:
    """Refuse estimates that agree with development, or do not explain the predictions."""
    if not found.fits:
        raise UserError(
            f"--site-prevalence: nothing is written, because another prevalence alone does not explain the predictions "
            f"(p {found.fit:.3f}); use --site-recalibrate with labels of this site"
        )
    if not found.differ:
        raise UserError(
            f"--site-prevalence: nothing is written, because the prevalences agree with those of development "
            f"(p {found.change:.2f}); use the bundle as it is"
        )


def print_prevalences(found: Prevalences, prior: Floats, classes: Sequence[str], title: str) -> None:
    """Print the estimate of each class."""
    print(f"{title}; estimated under the assumption that only the prevalences differ from development:")
    for number, name in enumerate(classes):
        low, high = found.lower[number], found.upper[number]
        print(
            f"  {name}: {prior[number]:.2f} in development, {found.shares[number]:.2f} ({low:.2f} to {high:.2f}) here"
        )
    print(f"  the same prevalences: p {found.change:.3f}; another prevalence alone: p {found.fit:.3f}")
