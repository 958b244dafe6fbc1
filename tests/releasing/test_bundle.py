import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.assessing.calibrators import Temperature
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation import Steps
from pipeline.imaging.transforms import PrepareScand, preparation_config
from pipeline.learning.classifier import Classifier
from pipeline.learning.encoder import inference
from pipeline.releasing.bundle import (
    INFERENCE,
    METADATA,
    SCHEMA,
    SCHEMA_FILE,
    STATE_DICT,
    WEIGHTS,
    inference_config,
    metadata_config,
    open_bundle,
)
from pipeline.releasing.manifest import BrokenBundle, write_manifest
from tests.conftest import TINY_ENCODER, save_nifti

GEOMETRY = Geometry("volume", 32, 4, 3, (1.0, 1.0, 1.0), "pad", "percentile")
ARGUMENTS = {"encoder": TINY_ENCODER, "in_channels": 3, "n_classes": 3, "mean": [0.5], "std": [0.5]}
CLASSES = ["a", "b", "c"]
TEMPERATURE = 1.7


def written(folder, activation="softmax"):
    """Write a bundle of a network that has learned nothing."""
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    state = {name: value.contiguous() for name, value in Classifier(**ARGUMENTS).state_dict().items()}
    save_file(state, folder / WEIGHTS)
    torch.save(state, folder / STATE_DICT)
    metadata = metadata_config(
        "model", "1.0.0", "d", "u", CLASSES, GEOMETRY.planes, 32, "volume", TEMPERATURE, "candidate", {}, {}, activation
    )
    inference_settings = inference_config(preparation_config(Steps(GEOMETRY)), ARGUMENTS, TEMPERATURE, activation)
    (folder / METADATA).write_text(json.dumps(metadata))
    (folder / INFERENCE).write_text(json.dumps(inference_settings))
    shutil.copyfile(SCHEMA_FILE, folder / SCHEMA)
    write_manifest(folder, {})
    return folder


@pytest.fixture
def bundle(tmp_path):
    return written(tmp_path / "model")


def monai(bundle, *words):
    return subprocess.run([sys.executable, "-m", "monai.bundle", *words], cwd=bundle, capture_output=True, text=True)


def rewrite(bundle, file, change):
    values = json.loads((bundle / file).read_text())
    change(values)
    (bundle / file).write_text(json.dumps(values))
    write_manifest(bundle, {})


def test_monai_accepts_the_metadata_and_refuses_them_without_a_required_key(bundle):
    words = ("verify_metadata", "--meta_file", str(METADATA), "--filepath", str(SCHEMA))
    assert monai(bundle, *words).returncode == 0
    values = json.loads((bundle / METADATA).read_text())
    del values["network_data_format"]
    (bundle / METADATA).write_text(json.dumps(values))
    assert monai(bundle, *words).returncode != 0


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_monai_runs_the_bundle_to_our_own_probabilities_and_writes_no_path(activation, tmp_path, asymmetric):
    bundle = written(tmp_path / "model", activation)
    scans = tmp_path / "patient_jane_doe"
    files = [save_nifti(scans / f"{number}.nii.gz", asymmetric + number, "PSR") for number in range(2)]
    configs = ("--config_file", str(INFERENCE), "--meta_file", str(METADATA))
    done = monai(bundle, "run", *configs, "--dataset_dir", str(scans))
    assert done.returncode == 0, done.stderr[-2000:]
    text = (bundle / "eval" / "predictions.csv").read_text()
    assert "jane_doe" not in text
    open_bundle(bundle)  # a run leaves the bundle what it was
    theirs = {row[0]: np.array(row[1:], dtype=float) for row in csv.reader(text.splitlines())}
    calibrator = Temperature(TEMPERATURE, open_bundle(bundle).activation)
    assert calibrator.activation == activation
    network = Classifier(**ARGUMENTS)
    network.load_state_dict(load_file(bundle / WEIGHTS))
    inference(network)
    for file in files:
        with torch.inference_mode():
            logits = network(torch.from_numpy(Steps(GEOMETRY).prepare_file(file).planes)[None]).double().numpy()
        np.testing.assert_allclose(theirs[file.name], calibrator.apply(logits)[0], atol=1e-5)
        assert (abs(theirs[file.name].sum() - 1) < 1e-5) == (activation == "softmax")


def test_an_opened_bundle_is_what_was_written(bundle):
    opened = open_bundle(bundle)
    assert PrepareScand(**opened.preparation).steps == Steps(GEOMETRY)
    assert (opened.network, opened.temperature, opened.classes) == (ARGUMENTS, TEMPERATURE, CLASSES)
    assert (opened.kind, opened.status) == ("volume", "candidate")


def test_each_channel_of_labels_that_stand_by_themselves_is_defined_as_such(tmp_path):
    folder = written(tmp_path / "model", "sigmoid")
    [pred] = json.loads((folder / METADATA).read_text())["network_data_format"]["outputs"].values()
    assert pred["channel_def"] == {"0": "a there, by itself", "1": "b there, by itself", "2": "c there, by itself"}
    assert open_bundle(folder).classes == CLASSES
    words = ("verify_metadata", "--meta_file", str(METADATA), "--filepath", str(SCHEMA))
    assert monai(folder, *words).returncode == 0


def test_an_activation_that_is_not_named_is_softmax_and_an_unknown_one_is_refused(bundle):
    rewrite(bundle, METADATA, lambda values: values["calibration"].pop("activation"))
    assert open_bundle(bundle).activation == "softmax"
    rewrite(bundle, METADATA, lambda values: values["calibration"].update(activation="relu"))
    with pytest.raises(BrokenBundle, match="not one of medadapt's"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", [str(WEIGHTS), str(STATE_DICT), str(METADATA), str(INFERENCE), str(SCHEMA)])
def test_one_changed_byte_in_any_file_is_refused_by_the_files_name(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BrokenBundle, match=name):
        open_bundle(bundle)


def test_a_missing_an_added_file_and_no_manifest_are_refused(bundle):
    (bundle / "models" / "extra.pt").write_text("x")
    with pytest.raises(BrokenBundle, match="not part of this bundle"):
        open_bundle(bundle)
    (bundle / "models" / "extra.pt").unlink()
    (bundle / STATE_DICT).unlink()
    with pytest.raises(BrokenBundle, match="missing"):
        open_bundle(bundle)
    (bundle / "MANIFEST.json").unlink()
    with pytest.raises(BrokenBundle, match="missing or unreadable"):
        open_bundle(bundle)
    with pytest.raises(BrokenBundle, match="is not there"):
        open_bundle(bundle / "nowhere")


def hostile(mark):
    evil = f"$__import__('pathlib').Path({str(mark)!r}).touch()"
    call = {"_target_": "os.system", "command": f"touch {mark}"}
    return {
        "transform": lambda v: v["preprocessing"]["transforms"][0].update(_target_="os.system"),
        "network": lambda v: v["network_def"].update(_target_="os.system"),
        "expression in a transform": lambda v: v["preprocessing"]["transforms"][0].update(keys=evil),
        "expression in the network": lambda v: v["network_def"].update(encoder=evil),
        "nested target": lambda v: v["network_def"].update(mean=call),
    }


@pytest.mark.parametrize("kind", hostile("x"))
def test_a_bundle_that_would_run_code_is_refused_and_runs_none(bundle, tmp_path, kind):
    rewrite(bundle, INFERENCE, hostile(tmp_path / "mark")[kind])
    with pytest.raises(BrokenBundle, match="not allowed"):
        open_bundle(bundle)
    assert not (tmp_path / "mark").exists()


def test_a_second_transform_is_refused(bundle):
    rewrite(bundle, INFERENCE, lambda values: values["preprocessing"]["transforms"].append({"_target_": "Flipd"}))
    with pytest.raises(BrokenBundle, match="not one of medadapt's"):
        open_bundle(bundle)


def test_another_projects_bundle_is_refused_with_the_reason(bundle):
    rewrite(bundle, METADATA, lambda values: values.pop("calibration"))
    with pytest.raises(BrokenBundle, match="not one of medadapt's"):
        open_bundle(bundle)
