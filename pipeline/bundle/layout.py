"""The MONAI Bundle: metadata and inference configuration as plain data, and where its files stand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jsonschema
import monai
import numpy
import torch
from torch import Tensor

from pipeline.bundle.allowed import (
    CALIBRATOR,
    CLASSIFIER,
    ENSEMBLE,
    RUN,
    SCANS,
)

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

Config = dict[str, Any]
Activation = Literal["softmax", "sigmoid"]


def metadata_config(
    name: str,
    version: str,
    description: str,
    intended_use: str,
    classes: Sequence[str],
    channels: int,
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
                    "num_channels": channels,
                    "spatial_shape": [image_size, image_size],
                    "dtype": "float32",
                    "value_range": [0, 255],
                    "is_patch_data": False,
                    "channel_def": {str(number): f"channel {number}" for number in range(channels)},
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
            "data": {"_target_": SCANS, "folder": "@dataset_dir"},
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
        "run": [RUN],
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


def schema_error(metadata: Config) -> str | None:
    """Hold metadata against the schema of MONAI's bundles that comes with us; needs no network."""
    try:
        jsonschema.validate(metadata, json.loads(SCHEMA_FILE.read_text()))
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.absolute_path)) or 'the file'}: {error.message}"
    return None


def activation_of(calibration: Config) -> Activation:
    """Read how logits become probabilities."""
    known: tuple[Activation, ...] = get_args(Activation)
    return known[known.index(calibration.get("activation", "softmax"))]
