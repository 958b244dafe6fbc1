"""Bundles of small untrained networks, written as `release` writes them."""

import json
import shutil
import subprocess

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from pipeline.bundle.layout import (
    INFERENCE,
    METADATA,
    SCHEMA,
    SCHEMA_FILE,
    STATE_DICT,
    WEIGHTS,
    BundleFacts,
    inference_config,
    metadata_config,
)
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.transforms import preparation_config
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import state_of_members
from pipeline.metrics.calibrators.fitting import METHODS, calibrator_from, digest_of, fit
from tests.conftest import TINY_ENCODER

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


def written(folder, calibrator=CALIBRATOR, members=0, classes=tuple(CLASSES), *, geometry=GEOMETRY):
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
        channels=geometry.stored_channels,
        image_size=32,
        kind=geometry.kind,
        calibration=calibration,
        status="candidate",
    )
    metadata = metadata_config(facts)
    inference_settings = inference_config(preparation_config(Preprocessor(geometry)), arguments, calibrator)
    (folder / METADATA).write_text(json.dumps(metadata))
    (folder / INFERENCE).write_text(json.dumps(inference_settings))
    shutil.copyfile(SCHEMA_FILE, folder / SCHEMA)
    write_manifest(folder, {})
    return folder


@torch.inference_mode()
def expected(bundle, scan, calibrator):
    """Predict a scan step by step: each member, the mean of their logits, then the calibrator."""
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


def rewrite(bundle, file, change):
    values = json.loads((bundle / file).read_text())
    change(values)
    (bundle / file).write_text(json.dumps(values))
    write_manifest(bundle, {})


LABELS_TOO = ("temperature", "platt", "beta", "isotonic")


EVERY = [(method, "softmax") for method in METHODS] + [(method, "sigmoid") for method in LABELS_TOO]


def new_key(file, phrase=""):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-C", "", "-f", str(file)], check=True)
    return file
