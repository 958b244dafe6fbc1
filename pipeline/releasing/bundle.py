"""The MONAI Bundle: metadata and inference configuration as plain data, and the way back from a folder to its parts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jsonschema
import monai
import numpy
import torch
from torch import Tensor

from pipeline.releasing.manifest import BrokenBundle, verify_manifest

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
SCHEMA_FILE = Path(__file__).with_name("metadata_schema.json")
METADATA = Path("configs/metadata.json")
SCHEMA = Path("configs/metadata_schema.json")
INFERENCE = Path("configs/inference.json")
WEIGHTS = Path("models/model.safetensors")
STATE_DICT = Path("models/model.pt")
CARD = Path("docs/README.md")
STATUS = Path("STATUS")
EXPECTED = Path("phantoms/expected.json")
LIMITS = Path("configs/limits_of_use.json")
REFERENCE = Path("monitoring/reference.json")
CLASSIFIER = "pipeline.learning.classifier.Classifier"
ENSEMBLE = "pipeline.learning.ensemble.Ensemble"
PREPARATION = "pipeline.imaging.transforms.PrepareScand"
CALIBRATOR = "pipeline.assessing.calibrating.calibration_maps.calibrator_from"

Config = dict[str, Any]
Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Opened:
    """A bundle whose checksums held.

    Attributes
    ----------
    preparation : dict
        Arguments of `pipeline.imaging.transforms.PrepareScand`, from the file to the network's input.
    network : dict
        Arguments of `pipeline.learning.classifier.Classifier`, or of `pipeline.learning.ensemble.Ensemble`: `members`.
    weights : Path
        The safetensors file.
    calibrator : dict
        What `calibrator_from` of `pipeline.assessing` takes: the map's method, activation and numbers.
    classes : list of str
    kind : str
        "volume" or "picture".
    status : str
        "validated" or "candidate".
    """

    preparation: Config
    network: Config
    weights: Path
    calibrator: Config
    classes: list[str]
    kind: str
    status: str


def metadata_config(
    name: str,
    version: str,
    description: str,
    intended_use: str,
    classes: Sequence[str],
    planes: int,
    image_size: int,
    kind: str,
    calibration: Config,
    status: str,
    gates: list[Config],
    eval_metrics: Config,
    provenance: Config,
    released: Config,
    exports: Config,
    preparation_parity: Config,
) -> Config:
    """Write configs/metadata.json to the schema meta_schema_20240725, with calibration in a key of its own.

    `calibration` holds the map's method, activation and numbers, and its `sha256`; `released` what the object is:
    `form` ("refit" or "ensemble"), `members`, and on what the map was fitted; `gates` what `status` follows from;
    `exports`, by format, how equal to the network it was found to be, or why there is none; `preparation_parity`
    how equal the bundle's preprocessing is to what the network was trained on.
    """
    by_itself = " there, by itself" if activation_of(calibration) == "sigmoid" else ""
    return {
        "schema": SCHEMA_URL,
        "version": version,
        "changelog": {version: "released by medadapt"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": numpy.__version__,
        "required_packages_version": {"medadapt": "0.1.0"},
        "name": name,
        "task": f"Classification of medical images: {', '.join(classes)}",
        "description": description or "A classifier made by medadapt.",
        "authors": "to be filled in by the people who release it",
        "copyright": "to be filled in by the people who release it",
        "intended_use": f"{intended_use} Research use only, not a medical device.".strip(),
        "eval_metrics": eval_metrics,
        "status": status,
        "gates": gates,
        "calibration": calibration,
        "released": released,
        "exports": exports,
        "preparation_parity": preparation_parity,
        "provenance": provenance,
        "classes": list(classes),
        "kind": kind,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": planes,
                    "spatial_shape": [image_size, image_size],
                    "dtype": "float32",
                    "value_range": [0, 255],
                    "is_patch_data": False,
                    "channel_def": {str(number): f"plane {number}" for number in range(planes)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": len(classes),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {str(number): f"{label}{by_itself}" for number, label in enumerate(classes)},
                }
            },
        },
    }


def inference_config(preparation: Config, network: Config, calibrator: Config) -> Config:
    """Write configs/inference.json: the evaluated preprocessing, network and calibrator in MONAI's evaluator.

    Only `run` holds an expression; everything else is `_target_` and plain values.
    """
    return {
        "bundle_root": ".",
        "device": {"_target_": "torch.device", "device": "cpu"},
        "dataset_dir": "input",
        "output_dir": "eval",
        "preprocessing": {"_target_": "Compose", "transforms": [preparation]},
        "postprocessing": {"_target_": "Compose", "transforms": calibration_steps(calibrator)},
        "dataset": {
            "_target_": "Dataset",
            "data": {"_target_": "pipeline.imaging.transforms.scans_in", "folder": "@dataset_dir"},
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "network_def": {"_target_": target_of(network), **network},
        "inferer": {"_target_": "SimpleInferer"},
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": str(STATE_DICT),
                "load_dict": {"model": "@network_def"},
                "strict": True,
            },
            {
                "_target_": "ClassificationSaver",
                "output_dir": "@output_dir",
                "filename": "predictions.csv",
                "output_transform": {"_target_": "monai.handlers.from_engine", "keys": "pred"},
            },
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network_def",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "run": ["$@evaluator.run()"],
    }


def calibration_steps(calibrator: Config) -> list[Config]:
    """Write the calibrator as MONAI transforms from logits to probabilities."""
    if calibrator["method"] != "temperature":
        other = {"_target_": CALIBRATOR, "values": calibrator}
        return [{"_target_": "Activationsd", "keys": "pred", "other": other}]
    # v * (1 + factor) with factor = 1 / T - 1: the temperature, as a transform that every client has.
    factor = 1 / calibrator["temperature"] - 1
    return [
        {"_target_": "ScaleIntensityd", "keys": "pred", "minv": None, "maxv": None, "factor": factor},
        {"_target_": "Activationsd", "keys": "pred", activation_of(calibrator): True},
    ]


def target_of(network: Config) -> str:
    """Tell which network takes these arguments."""
    return ENSEMBLE if "members" in network else CLASSIFIER


def state_of_members(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put the state dicts of members together as that of their ensemble, `members.<k>.<name>`."""
    return {f"members.{number}.{name}": value for number, one in enumerate(states) for name, value in one.items()}


def open_bundle(folder: Path) -> Opened:
    """Check a bundle's hashes, then read its configuration; nothing in it is executed.

    Raises
    ------
    BrokenBundle
        If a file changed, or the configuration names a transform, network or calibrator that is not on the allow-list.
    """
    if not folder.is_dir():
        raise BrokenBundle(f"the bundle {folder} is not there")
    verify_manifest(folder)
    try:
        metadata, inference = (json.loads((folder / file).read_text()) for file in (METADATA, INFERENCE))
        [preparation] = inference["preprocessing"]["transforms"]
        network = dict(inference["network_def"])
        calibrator = calibrator_in(metadata["calibration"])
        calibrated = inference["postprocessing"]["transforms"] == calibration_steps(calibrator)
        targets = (preparation.pop("_target_", None), network.pop("_target_"))
        known = [str(metadata[key]) for key in ("kind", "status")]
        opened = Opened(preparation, network, folder / WEIGHTS, calibrator, list(metadata["classes"]), *known)
    except (OSError, ValueError, KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise BrokenBundle(f"{folder}: its configuration is not one of medadapt's: {error}") from error
    if not calibrated:
        raise BrokenBundle(f"{folder / INFERENCE} has a calibrator that is not allowed: not the one in {METADATA}")
    refuse_code(folder, *targets, opened)
    return opened


def reference_in(folder: Path) -> Config:
    """Read what scans in use are compared with, of a bundle whose hashes hold.

    Raises
    ------
    BrokenBundle
        If the bundle was released without it.
    """
    try:
        reference: Config = json.loads((folder / REFERENCE).read_text())
    except FileNotFoundError as error:
        raise BrokenBundle(f"{folder} has no {REFERENCE}: release it anew with this version of medadapt") from error
    return reference


def schema_error(metadata: Config) -> str | None:
    """Hold metadata against the schema of MONAI's bundles that comes with us; needs no network."""
    try:
        jsonschema.validate(metadata, json.loads(SCHEMA_FILE.read_text()))
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.absolute_path)) or 'the file'}: {error.message}"
    return None


def calibrator_in(calibration: Config) -> Config:
    """Read the values of the map; releases before there were several activations name none, and mean softmax."""
    values = {"activation": activation_of(calibration), **calibration}
    return {name: value for name, value in values.items() if name != "sha256"}


def activation_of(calibration: Config) -> Activation:
    """Read how logits become probabilities."""
    known: tuple[Activation, ...] = get_args(Activation)
    return known[known.index(calibration.get("activation", "softmax"))]


def refuse_code(folder: Path, preparation: Any, network: Any, opened: Opened) -> None:
    """Make sure that a configuration names known parts only and holds no expression that MONAI would evaluate."""
    if preparation != PREPARATION:
        raise BrokenBundle(f"{folder / INFERENCE} names the transform '{preparation}', which is not allowed")
    if network != target_of(opened.network):
        raise BrokenBundle(f"{folder / INFERENCE} names the network '{network}', which is not allowed")
    if _holds_expression([opened.preparation, opened.network, opened.calibrator]):
        raise BrokenBundle(f"{folder / INFERENCE} holds an expression, which is not allowed")


def _holds_expression(values: Any) -> bool:
    if isinstance(values, dict):
        return "_target_" in values or any(map(_holds_expression, values.values()))
    if isinstance(values, list):
        return any(map(_holds_expression, values))
    return isinstance(values, str) and values.startswith(("$", "@", "%"))
