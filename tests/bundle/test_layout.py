import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run, verify_metadata, verify_net_in_out
from safetensors.torch import load_file, save_file

from pipeline import bundle as public
from pipeline.bundle.layout import (
    ENSEMBLE,
    INFERENCE,
    METADATA,
    SCHEMA,
    SCHEMA_FILE,
    STATE_DICT,
    WEIGHTS,
    BundleFacts,
    calibration_steps,
    inference_config,
    metadata_config,
    state_of_members,
)
from pipeline.bundle.manifest import BrokenBundle, write_manifest
from pipeline.bundle.opening import open_bundle
from pipeline.bundle.transforms import PrepareScand, preparation_config
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import inference
from pipeline.metrics.calibrators.fitting import METHODS, calibrator_from, digest_of, fit
from tests.conftest import TINY_ENCODER, save_nifti

GEOMETRY = Geometry("volume", 32, 4, 3, (1.0, 1.0, 1.0), "pad", "percentile")
ARGUMENTS = {
    "encoder": {"name": TINY_ENCODER},
    "instances": {"channels": 3, "mean": [0.5], "std": [0.5]},
    "head": {"n_classes": 3},
}
CLASSES = ["a", "b", "c"]
TEMPERATURE = 1.7
CALIBRATOR = {"method": "temperature", "activation": "softmax", "temperature": TEMPERATURE}


def fitted(method, activation="softmax", n_classes=3):
    """Fit a map to logits that say too much, and give its values as a file would hold them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, 1200)
    targets = np.eye(n_classes)[labels]
    logits = 2 * targets + rng.normal(size=targets.shape) * 2 + np.arange(n_classes) / 4
    return json.loads(json.dumps(fit(method, logits, targets if activation == "sigmoid" else labels).as_json()))


def written(folder, calibrator=CALIBRATOR, members=0, classes=tuple(CLASSES)):
    """Write a bundle of a network that has learned nothing, or of an ensemble of several."""
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    one = ARGUMENTS | {"head": {"n_classes": len(classes)}}
    networks = [Classifier(**one) for _ in range(members or 1)]
    for network in networks:
        torch.nn.init.normal_(network.head.bias)
    states = [{name: value.contiguous() for name, value in one.state_dict().items()} for one in networks]
    state = state_of_members(states) if members else states[0]
    arguments = {"members": [one] * members} if members else one
    save_file(state, folder / WEIGHTS)
    torch.save(state, folder / STATE_DICT)
    calibration = calibrator | {"sha256": digest_of(calibrator_from(calibrator))}
    facts = BundleFacts(
        name="model",
        version="1.0.0",
        classes=classes,
        channels=GEOMETRY.stored_channels,
        image_size=32,
        kind="volume",
        calibration=calibration,
        status="candidate",
    )
    metadata = metadata_config(facts)
    inference_settings = inference_config(preparation_config(Preprocessor(GEOMETRY)), arguments, calibrator)
    (folder / METADATA).write_text(json.dumps(metadata))
    (folder / INFERENCE).write_text(json.dumps(inference_settings))
    shutil.copyfile(SCHEMA_FILE, folder / SCHEMA)
    write_manifest(folder, {})
    return folder


@pytest.fixture
def bundle(tmp_path):
    return written(tmp_path / "model")


@torch.inference_mode()
def expected(bundle, scan, calibrator):
    """Evaluate a scan the long way: each member by itself, the mean of their logits, then the map."""
    state, channels = (
        load_file(bundle / WEIGHTS),
        torch.from_numpy(Preprocessor(GEOMETRY).prepare_file(scan).channels)[None],
    )
    prefixes = sorted({"".join(f"{part}." for part in name.split(".")[:2]) for name in state if name[:8] == "members."})
    logits = []
    for prefix in prefixes or [""]:
        network = Classifier(**ARGUMENTS)
        network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        logits.append(inference(network)(channels).double().numpy())
    mean = np.mean(logits, axis=0).astype(np.float32).astype(np.float64)
    return calibrator_from(calibrator).apply(mean)[0]


def monai(bundle, *words):
    """Run MONAI's command line in a process of its own."""
    return subprocess.run([sys.executable, "-m", "monai.bundle", *words], cwd=bundle, capture_output=True, text=True)


CONFIGS = {"config_file": str(INFERENCE), "meta_file": str(METADATA)}
METADATA_AND_SCHEMA = {"meta_file": str(METADATA), "filepath": str(SCHEMA)}


def rewrite(bundle, file, change):
    values = json.loads((bundle / file).read_text())
    change(values)
    (bundle / file).write_text(json.dumps(values))
    write_manifest(bundle, {})


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


LABELS_TOO = ("temperature", "platt", "beta", "isotonic")
EVERY = [(method, "softmax") for method in METHODS] + [(method, "sigmoid") for method in LABELS_TOO]


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


def test_an_opened_bundle_is_what_was_written(bundle):
    opened = open_bundle(bundle)
    assert PrepareScand(**opened.preparation).steps == Preprocessor(GEOMETRY)
    assert (opened.network, opened.calibrator, opened.classes) == (ARGUMENTS, CALIBRATOR, CLASSES)
    assert (opened.kind, opened.status) == ("volume", "candidate")


def test_an_opened_ensemble_has_its_members_and_the_map_of_their_mean(tmp_path):
    opened = open_bundle(written(tmp_path / "model", fitted("platt"), 2))
    assert opened.network == {"members": [ARGUMENTS, ARGUMENTS]} and opened.calibrator == fitted("platt")


def test_metadata_define_each_label_of_a_multilabel_task(tmp_path, monkeypatch):
    folder = written(tmp_path / "model", CALIBRATOR | {"activation": "sigmoid"})
    [pred] = json.loads((folder / METADATA).read_text())["network_data_format"]["outputs"].values()
    assert pred["channel_def"] == {"0": "a is present", "1": "b is present", "2": "c is present"}
    assert open_bundle(folder).classes == CLASSES
    monkeypatch.chdir(folder)
    verify_metadata(**METADATA_AND_SCHEMA)


def test_a_missing_activation_is_softmax_and_an_unknown_one_is_refused(bundle):
    old = {"method": "temperature", "temperature": TEMPERATURE}
    rewrite(bundle, METADATA, lambda values: values.update(calibration=old))
    assert open_bundle(bundle).calibrator == CALIBRATOR
    rewrite(bundle, METADATA, lambda values: values["calibration"].update(activation="relu"))
    with pytest.raises(BrokenBundle, match="not written by medadapt"):
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
    with pytest.raises(BrokenBundle, match="there is no bundle"):
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
        "target in a list": lambda v: v["network_def"].update(mean=[call]),
        "target in a member": lambda v: v["network_def"].update(members=[call], _target_=ENSEMBLE),
        "members of another network": lambda v: v["network_def"].update(members=[ARGUMENTS]),
        "a classifier's arguments in an ensemble": lambda v: v["network_def"].update(_target_=ENSEMBLE),
        "calibrator": lambda v: v["postprocessing"]["transforms"][1].update(other=call),
        "another temperature": lambda v: v["postprocessing"]["transforms"][0].update(factor=0.0),
        "dataset": lambda v: v["dataset"].update(_target_="os.system"),
        "handler": lambda v: v["handlers"].append(call),
        "expression before the run": lambda v: v["run"].insert(0, evil),
        "import": lambda v: v.update(imports=["$import os"]),
        "macro of another file": lambda v: v.update(more=f"%{mark}#0"),
        "a further step": lambda v: v["postprocessing"]["transforms"].append({"_target_": "Lambdad", "func": evil}),
    }


@pytest.mark.parametrize("kind", hostile("x"))
def test_a_bundle_that_would_run_code_is_refused_and_runs_none(bundle, tmp_path, kind):
    rewrite(bundle, INFERENCE, hostile(tmp_path / "mark")[kind])
    with pytest.raises(BrokenBundle, match="not allowed"):
        open_bundle(bundle)
    assert not (tmp_path / "mark").exists()


def test_metadata_that_would_run_code_are_refused(bundle, tmp_path):
    rewrite(bundle, METADATA, lambda values: values.update(description=f"$open({str(tmp_path / 'mark')!r}, 'w')"))
    with pytest.raises(BrokenBundle, match="not allowed"):
        open_bundle(bundle)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["configs/logging.conf", "scripts/run.py", "models/model.pkl", "hubconf.py"])
def test_an_unknown_file_is_refused_even_if_its_hash_matches(bundle, name):
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text("[loggers]")
    write_manifest(bundle, {})
    with pytest.raises(BrokenBundle, match=f"{name} is not one of the files"):
        open_bundle(bundle)


@pytest.mark.parametrize("value", [{"_target_": "os.system", "command": "true"}, "$1 + 1"])
def test_a_map_that_would_run_code_is_refused_though_both_files_agree(tmp_path, value):
    bundle = written(tmp_path / "model", fitted("platt"))
    rewrite(bundle, METADATA, lambda values: values["calibration"].update(more=[value]))
    [step] = calibration_steps(fitted("platt") | {"more": [value]})
    rewrite(bundle, INFERENCE, lambda values: values["postprocessing"].update(transforms=[step]))
    with pytest.raises(BrokenBundle, match="not allowed"):
        open_bundle(bundle)


def test_a_second_transform_is_refused(bundle):
    rewrite(bundle, INFERENCE, lambda values: values["preprocessing"]["transforms"].append({"_target_": "Flipd"}))
    with pytest.raises(BrokenBundle, match="not written by medadapt"):
        open_bundle(bundle)


def test_another_projects_bundle_is_refused_with_the_reason(bundle):
    rewrite(bundle, METADATA, lambda values: values.pop("calibration"))
    with pytest.raises(BrokenBundle, match="not written by medadapt"):
        open_bundle(bundle)


@pytest.mark.parametrize("old", ["pipeline.learning.classifier.Classifier", "pipeline.learning.adapting.Anything"])
def test_a_bundle_from_before_the_public_names_is_refused_with_what_to_do(bundle, old):
    rewrite(bundle, INFERENCE, lambda values: values["network_def"].update(_target_=old))
    with pytest.raises(BrokenBundle, match="earlier version of medadapt.*Release the model again"):
        open_bundle(bundle)


def test_public_names_are_imported_on_first_use():
    assert all(getattr(public, name).__name__ == name for name in public.PUBLIC) and set(public.PUBLIC) <= set(
        dir(public)
    )
    code = "import sys, pipeline.bundle; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
