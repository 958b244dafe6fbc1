"""A bundle with operating limits, and what `predict` writes with it."""

import json

import numpy as np
import pandas as pd

from pipeline.__main__ import main
from pipeline.bundle.decision import fit_rules
from pipeline.bundle.layout import LIMITS
from pipeline.bundle.limits import OperatingLimits
from pipeline.bundle.manifest import MANIFEST, sha256_of, write_manifest
from pipeline.bundle.opening import open_bundle
from pipeline.bundle.scoring import Scorer
from pipeline.metrics.calibrators.calibrator import calibrator_from
from pipeline.metrics.ood import energy, fit_gaussians, fit_ood_detector, scores_of
from tests.bundle.bundles import CLASSES
from tests.conftest import save_nifti


def with_limits(folder, share=0.05):
    """Put limits into a bundle, as a release would set them on scans of two sites, one of them brighter."""
    bundle = open_bundle(folder)
    score = Scorer(bundle.network, bundle.weights, bundle.preparation)
    rng = np.random.default_rng(0)
    scans, seen = folder.parent / "development", []
    for number in range(24):
        volume = rng.normal(50 + number % 2 * 20, 12, (12, 14, 10)).astype(np.float32)
        seen.append(score(save_nifti(scans / f"{number}.nii.gz", volume), None))
    logits, features = np.array([one.logits for one in seen]), np.array([one.features[0] for one in seen])
    patients, labels = np.arange(24).astype(str), rng.integers(0, 3, 24)
    gaussian, sites = (
        fit_gaussians(features, labels.astype(str)),
        fit_gaussians(features, np.array(["dim", "bright"] * 12)),
    )
    shown = np.array([one.appearance for one in seen])
    appearances = fit_gaussians(shown, np.full(24, "all"))
    apart, odd = (one.distances(rows).min(axis=1) for one, rows in ((gaussian, features), (appearances, shown)))
    detector = fit_ood_detector(scores_of(energy(logits), apart, odd), patients, share)
    rules = fit_rules(
        calibrator_from(bundle.calibrator).apply(logits), labels, patients, CLASSES, coverage=0.9, answered=0.9
    )
    limits = OperatingLimits(rules, [gaussian], [sites], [appearances], detector, detector.quantiles, False)
    (folder / LIMITS).write_text(json.dumps({"limits": limits.as_json(), "tested": []}))
    write_manifest(folder, {})
    return scans, limits


def predicted(tmp_path, *words):
    assert main(["predict", *map(str, words), "--out", str(tmp_path / "found.csv")]) == 0
    return pd.read_csv(tmp_path / "found.csv", keep_default_na=False).set_index("scan")


def recalibration(folder, file):
    """Write a recalibration for a site as `predict --site-recalibrate` does, with numbers of our own."""
    change = {"intercepts": [0.0, 1.5, -0.5], "slope": 0.7}
    file.write_text(json.dumps({"bundle": {"manifest": sha256_of(folder / MANIFEST)}, "change": change}))
    return file
