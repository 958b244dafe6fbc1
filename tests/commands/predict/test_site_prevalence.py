"""`predict --site-prevalence`: prevalences of a new site from unlabelled scans."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.bundle.layout import REFERENCE
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.monitoring_reference import reference_of
from tests.bundle.bundles import CLASSES, written
from tests.commands.predict.limits import predicted, with_limits
from tests.conftest import save_nifti

SHARES = (0.5, 0.3, 0.2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with limits and with a reference of 60 development patients, and scans like those of its development."""
    folder = written(tmp_path_factory.mktemp("prevalence") / "model")
    scans, _ = with_limits(folder)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.dirichlet([20, 20, 20], 60), columns=[f"probability_{number}" for number in range(3)])
    table = table.assign(patient=np.arange(60).astype(str), ood_score=rng.random(60))
    labels = np.repeat(np.arange(3), np.round(60 * np.array(SHARES)).astype(int))
    (folder / REFERENCE).parent.mkdir(exist_ok=True)
    (folder / REFERENCE).write_text(json.dumps(reference_of(table, labels, CLASSES, 60, 0)))
    write_manifest(folder, {})
    return folder, scans


def scans_of_site(folder, count, level):
    rng = np.random.default_rng(1)
    for number in range(count):
        save_nifti(folder / f"{number}.nii.gz", rng.normal(level, 12, (12, 14, 10)).astype(np.float32))
    return folder


def adjusted(bundle, scans, out, *words):
    return main(["predict", str(bundle), str(scans), "--site-prevalence", "--out", str(out), *words])


def test_scans_that_look_different_are_not_adjusted(bundle, tmp_path, capsys):
    assert adjusted(bundle[0], scans_of_site(tmp_path / "site", 20, level=110), tmp_path / "ours.json") == 1
    assert "20 of 20 patients are out of distribution (5% expected)" in capsys.readouterr().err
    assert not (tmp_path / "ours.json").exists()


def test_estimated_prevalences_correct_probabilities_by_bayes_rule(bundle, tmp_path, capsys):
    folder, scans, out = *bundle, tmp_path / "ours.json"
    assert adjusted(folder, scans, out, "--force") == 0
    told = capsys.readouterr().out
    assert "a: 0.50 in development, " in told and f"use it with --calibration {out}" in told
    change = np.array(json.loads(out.read_text())["change"]["intercepts"])
    before, after = predicted(tmp_path, folder, scans), predicted(tmp_path, folder, scans, "--calibration", out)
    answered = before["abstains"] == ""
    assert answered.any()
    expected = before.loc[answered, CLASSES].to_numpy(float) * np.exp(change)
    expected /= expected.sum(axis=1, keepdims=True)
    assert after.loc[answered, CLASSES].to_numpy(float) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(
    ("count", "told"), [(19, "19 patients are too few; give unlabelled scans of at least 20"), (20, "needs --out")]
)
def test_what_is_missing_is_told(bundle, tmp_path, capsys, count, told):
    scans = scans_of_site(tmp_path / "site", count, level=50)
    words = ["--out", str(tmp_path / "ours.json")] if count < 20 else []
    assert main(["predict", str(bundle[0]), str(scans), "--site-prevalence", *words]) == 1
    assert told in capsys.readouterr().err


def test_a_bundle_of_an_earlier_version_is_refused_with_its_cure(bundle, tmp_path, capsys):
    values = json.loads((bundle[0] / REFERENCE).read_text())
    older = written(tmp_path / "older")
    with_limits(older)
    (older / REFERENCE).parent.mkdir(exist_ok=True)
    (older / REFERENCE).write_text(json.dumps({key: values[key] for key in values if key != "of_class"}))
    write_manifest(older, {})
    assert adjusted(older, scans_of_site(tmp_path / "site", 20, level=50), tmp_path / "ours.json") == 1
    assert "release the model again" in capsys.readouterr().err
