"""Metadata and configuration of a bundle, as MONAI reads and runs them."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run, verify_metadata, verify_net_in_out

from pipeline import bundle as public
from pipeline.bundle.layout import (
    INFERENCE,
    METADATA,
    SCHEMA,
    calibration_steps,
)
from pipeline.bundle.opening import open_bundle
from pipeline.metrics.calibrators.fitting import calibrator_from
from tests.bundle.bundles import CALIBRATOR, CLASSES, EVERY, expected, fitted, written
from tests.conftest import save_nifti


def monai(bundle, *words):
    """Run MONAI's command line in a process of its own."""
    return subprocess.run([sys.executable, "-m", "monai.bundle", *words], cwd=bundle, capture_output=True, text=True)


CONFIGS = {"config_file": str(INFERENCE), "meta_file": str(METADATA)}


METADATA_AND_SCHEMA = {"meta_file": str(METADATA), "filepath": str(SCHEMA)}


def test_monai_accepts_the_metadata_unless_a_required_key_is_missing(bundle, monkeypatch):
    monkeypatch.chdir(bundle)
    verify_metadata(**METADATA_AND_SCHEMA)
    values = json.loads((bundle / METADATA).read_text())
    del values["network_data_format"]
    (bundle / METADATA).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="network_data_format"):
        verify_metadata(**METADATA_AND_SCHEMA)


@pytest.mark.parametrize(
    ("method", "activation", "members"),
    [("temperature", "softmax", 0), ("temperature", "sigmoid", 0), ("platt", "softmax", 0), ("platt", "softmax", 3)],
)
def test_monai_runs_the_bundle_to_our_own_probabilities_and_writes_no_path(
    method, activation, members, tmp_path, asymmetric, monkeypatch
):
    calibrator = fitted(method, activation)
    bundle = written(tmp_path / "model", calibrator, members)
    scans = tmp_path / "patient_jane_doe"
    files = [save_nifti(scans / f"{number}.nii.gz", asymmetric + number, "PSR") for number in range(2)]
    monkeypatch.chdir(bundle)
    if members:  # one of them by MONAI's own command line
        options = [word for key, value in CONFIGS.items() for word in (f"--{key}", value)]
        done = monai(bundle, "run", *options, "--dataset_dir", str(scans))
        assert done.returncode == 0, done.stderr[-2000:]
    else:
        run(**CONFIGS, dataset_dir=str(scans))
    text = (bundle / "eval" / "predictions.csv").read_text()
    assert "jane_doe" not in text
    open_bundle(bundle)  # a run leaves the bundle what it was
    theirs = {row[0]: np.array(row[1:], dtype=float) for row in csv.reader(text.splitlines())}
    for file in files:
        np.testing.assert_allclose(theirs[file.name], expected(bundle, file, calibrator), atol=1e-5)
        assert (abs(theirs[file.name].sum() - 1) < 1e-5) == (activation == "softmax")


@pytest.mark.parametrize(("method", "activation"), EVERY)
def test_every_calibrator_gives_equal_probabilities_as_a_transform(method, activation):
    n_classes = 2 if activation == "softmax" and method in ("beta", "isotonic") else 3
    calibrator = fitted(method, activation, n_classes)
    steps = {"steps": {"_target_": "Compose", "transforms": calibration_steps(calibrator)}}
    parser = ConfigParser(json.loads(json.dumps(steps)))
    for logits in np.random.default_rng(1).normal(size=(5, n_classes)).astype(np.float32) * 3:
        found = parser.get_parsed_content("steps")({"pred": torch.from_numpy(logits)})["pred"]
        one = calibrator_from(calibrator).apply(logits[None].astype(np.float64))[0]
        np.testing.assert_allclose(found.numpy(), one, atol=1e-6)


def test_monai_finds_the_shapes_of_an_ensemble_as_its_metadata_say(tmp_path, monkeypatch):
    monkeypatch.chdir(written(tmp_path / "model", fitted("platt"), 2))
    verify_net_in_out(net_id="network_def", **CONFIGS)
    parser = ConfigParser(json.loads(METADATA.read_text()))
    parser["network_data_format#outputs#pred#num_channels"] = 7
    METADATA.write_text(json.dumps(parser.get()))
    with pytest.raises(ValueError, match="channel"):
        verify_net_in_out(net_id="network_def", **CONFIGS)


def test_metadata_define_each_label_of_a_multilabel_task(tmp_path, monkeypatch):
    folder = written(tmp_path / "model", CALIBRATOR | {"activation": "sigmoid"})
    [pred] = json.loads((folder / METADATA).read_text())["network_data_format"]["outputs"].values()
    assert pred["channel_def"] == {"0": "a is present", "1": "b is present", "2": "c is present"}
    assert open_bundle(folder).classes == CLASSES
    monkeypatch.chdir(folder)
    verify_metadata(**METADATA_AND_SCHEMA)


def test_public_names_are_imported_on_first_use():
    assert all(getattr(public, name).__name__ == name for name in public.PUBLIC) and set(public.PUBLIC) <= set(
        dir(public)
    )
    code = "import sys, pipeline.bundle; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
