"""The layout of a bundle: its files, and MONAI's metadata and inference configuration as plain values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import jsonschema
import monai
import numpy
import torch

from pipeline.bundle.allowed import (
    CALIBRATOR,
    CLASSIFIER,
    ENSEMBLE,
    PORTFOLIO,
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
LIMITS = Path("configs/operating_limits.json")
REFERENCE = Path("monitoring/reference.json")

HANDLERS = [
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
]

Config = dict[str, Any]
Activation = Literal["softmax", "sigmoid", "identity"]


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What configs/metadata.json says of a release.

    Attributes
    ----------
    name, version, description, intended_use : str
    cohort : str
        Digest of the cohort's folder, which tells the bundles of two cohorts apart.
    classes : sequence of str
    channels, image_size : int
        Of the network's input, (channels, image_size, image_size).
    kind : str
        "volume" or "image".
    calibration : dict
        The calibrator's method, activation and numbers, and its `sha256`.
    status : str
        "validated" or "candidate".
    gates : sequence of dict
        From which `status` follows.
    released_on : str
        Date, e.g. "2026-11-28".
    know_before_use : sequence of str
        The most serious facts about the model, one sentence each.
    eval_metrics, provenance : dict
    released : dict
        `form` ("refit" or "ensemble"), `members`, and on what the calibrator was fitted (`fitted_on`).
    exports : dict
        By format, its largest differences from the network, or why it was not shipped.
    operating_point : dict
        `rule`, `kind`, `level`, and `points`: for each class and unit ("scan", "patient") its threshold, and
        sensitivity and specificity on evaluated cases; see `operating_point.OperatingPoint`.
    per_patient : str
        How the logits of a patient's scans are joined: "mean", "max", or "none".
    preparation_parity : dict
        Largest difference between the bundle's preprocessing and the channels that the network was trained on.
    columns : dict
        Which columns the model takes besides the image, see `columns.columns_metadata`; empty if it takes none.
    masks : dict
        What the model does with masks, see `masks.MaskNeeds.as_json`; empty if it takes none.
    unit : str
        Of the number of a regression or of time; empty for classes.
    intervals : dict
        Of a regression: `Intervals.as_json`.
    risks : dict
        Of a survival model: `Risks.as_json`.
    """

    name: str
    version: str
    description: str = ""
    intended_use: str = ""
    cohort: str = ""
    classes: Sequence[str]
    channels: int
    image_size: int
    kind: str
    calibration: Config
    status: str
    gates: Sequence[Config] = ()
    released_on: str = ""
    know_before_use: Sequence[str] = ()
    eval_metrics: Config = field(default_factory=dict)
    provenance: Config = field(default_factory=dict)
    released: Config = field(default_factory=dict)
    exports: Config = field(default_factory=dict)
    preparation_parity: Config = field(default_factory=dict)
    operating_point: Config = field(default_factory=dict)
    per_patient: str = "none"
    columns: Config = field(default_factory=dict)
    masks: Config = field(default_factory=dict)
    unit: str = ""
    intervals: Config = field(default_factory=dict)
    risks: Config = field(default_factory=dict)


def metadata_config(facts: BundleFacts) -> Config:
    """Write configs/metadata.json by the schema meta_schema_20240725, with some keys of our own."""
    return {
        "schema": SCHEMA_URL,
        "version": facts.version,
        "changelog": {facts.version: "released by medadapt"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": numpy.__version__,
        "required_packages_version": {"medadapt": "0.1.0"},
        "name": facts.name,
        "task": _task_of(facts),
        "description": facts.description or f"A {_model_of(facts)} made by medadapt.",
        "authors": "to be filled in by the people who release it",
        "copyright": "to be filled in by the people who release it",
        "intended_use": f"{facts.intended_use} Research use only, not a medical device.".strip(),
        "cohort": facts.cohort,
        "eval_metrics": facts.eval_metrics,
        "status": facts.status,
        "gates": list(facts.gates),
        "released_on": facts.released_on,
        "know_before_use": list(facts.know_before_use),
        "calibration": facts.calibration,
        "released": facts.released,
        "exports": facts.exports,
        "preparation_parity": facts.preparation_parity,
        "operating_point": facts.operating_point,
        "per_patient": facts.per_patient,
        "provenance": facts.provenance,
        "classes": list(facts.classes),
        "kind": facts.kind,
        **({"columns": facts.columns} if facts.columns else {}),
        **({"masks": facts.masks} if facts.masks else {}),
        **({"unit": facts.unit} if facts.unit else {}),
        **({"intervals": facts.intervals} if facts.intervals else {}),
        **({"risks": facts.risks} if facts.risks else {}),
        "network_data_format": _network_data_format(facts),
    }


def _model_of(facts: BundleFacts) -> str:
    return "survival model" if facts.risks else "regression" if facts.unit else "classifier"


def _task_of(facts: BundleFacts) -> str:
    if facts.risks:
        times = ", ".join(f"{time:g}" for time in facts.risks["times"])
        return f"Survival from medical images: log hazard of an event, and its risk until {times} {facts.unit}"
    if facts.unit:
        return f"Regression on medical images: a number in {facts.unit}"
    return f"Classification of medical images: {', '.join(facts.classes)}"


def _network_data_format(facts: BundleFacts) -> Config:
    present = " is present" if activation_of(facts.calibration) == "sigmoid" else ""
    image = {
        "type": "image",
        "format": "magnitude",
        "num_channels": facts.channels,
        "spatial_shape": [facts.image_size, facts.image_size],
        "dtype": "float32",
        "value_range": [0, 255],
        "is_patch_data": False,
        "channel_def": {str(number): f"channel {number}" for number in range(facts.channels)},
    }
    prediction = {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(facts.classes),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(number): f"{label}{present}" for number, label in enumerate(facts.classes)},
    }
    if facts.unit:
        of_number = {"0": "log hazard" if facts.risks else f"value in {facts.unit}"}
        prediction |= {"type": "value", "format": "number", "value_range": [], "channel_def": of_number}
    return {"inputs": {"image": image}, "outputs": {"pred": prediction}}


def inference_config(preparation: Config, network: Config, calibrator: Config) -> Config:
    """Write configs/inference.json: preprocessing, network and calibrator for MONAI's evaluator.

    Only `run` holds an expression; everything else is `_target_` and plain values.
    """
    masks = {"masks": "@masks_dir"} if (preparation.get("mask") or {}).get("use", "none") != "none" else {}
    return {
        "bundle_root": ".",
        "device": {"_target_": "torch.device", "device": "cpu"},
        "dataset_dir": "input",
        "output_dir": "eval",
        **({"masks_dir": "masks"} if masks else {}),
        "preprocessing": {"_target_": "Compose", "transforms": [preparation]},
        "postprocessing": {"_target_": "Compose", "transforms": calibration_steps(calibrator)},
        "dataset": {
            "_target_": "Dataset",
            "data": {"_target_": SCANS, "folder": "@dataset_dir", **masks},
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "network_def": {"_target_": target_of(network), **network},
        "inferer": {"_target_": "SimpleInferer"},
        "handlers": HANDLERS,
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
    """Name the class that takes the arguments of a network."""
    if "members" in network:
        return ENSEMBLE
    return PORTFOLIO if "portfolio" in network else CLASSIFIER


def classifiers_of(network: Config) -> list[Config]:
    """List the arguments of every `Classifier` that a network is made of."""
    parts = network.get("members") or network.get("portfolio")
    return [one for part in parts for one in classifiers_of(part)] if parts else [network]


def sites_of(network: Config) -> tuple[str, ...]:
    """Name the sites for which a network, or a member of it, has values of its own, in the order of the members."""
    return tuple(
        dict.fromkeys(site for one in classifiers_of(network) for site in (one.get("sites") or {}).get("names", []))
    )


def schema_error(metadata: Config) -> str | None:
    """Validate metadata by the packaged copy of MONAI's bundle schema; return the error, if any."""
    try:
        jsonschema.validate(metadata, json.loads(SCHEMA_FILE.read_text()))
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.absolute_path)) or 'the file'}: {error.message}"
    return None


def activation_of(calibration: Config) -> Activation:
    """Read the activation that turns logits into probabilities."""
    known: tuple[Activation, ...] = get_args(Activation)
    return known[known.index(calibration["activation"])]
