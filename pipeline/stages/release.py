"""release: pass the gates, then pack the final model with everything that is needed to run and to doubt it."""

import importlib.metadata
import json
import shutil
from dataclasses import asdict

import torch
from safetensors.torch import load_file

from pipeline import paths
from pipeline.assessing.gates import Gate, check_gates
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation import Steps
from pipeline.imaging.transforms import preparation_config
from pipeline.refusal import Refusal
from pipeline.releasing.bundle import (
    INFERENCE,
    METADATA,
    SCHEMA,
    SCHEMA_FILE,
    STATE_DICT,
    WEIGHTS,
    inference_config,
    metadata_config,
)
from pipeline.releasing.card import write_card
from pipeline.releasing.manifest import sha256_of, write_manifest
from pipeline.schema import FINAL, Params

PACKAGES = ("torch", "monai", "timm", "numpy", "scikit-learn", "nibabel", "pydicom", "safetensors", "pillow")


def run(params: Params) -> None:
    """Write data/released/<name>, a MONAI Bundle."""
    if FINAL not in params.split.folds:
        raise Refusal(f"split.folds: add '{FINAL}', the model that is released")
    bundle = paths.bundle(params.release.name)
    shutil.rmtree(bundle, ignore_errors=True)
    figures = {
        file.stem.removesuffix("_calibrated"): paths.read_json(file)
        for file in sorted(paths.METRICS_POOLED.glob("*_calibrated.json"))
    }
    stamps = paths.read_json(paths.STAMPS)
    gates = check_gates(figures["internal"], stamps, params.release.min_auc_lower)
    status = "validated" if all(gate.passed for gate in gates) else "candidate"
    write_models(params.release.name)
    write_configs(params, status, figures)
    write_documents(params, status, figures, gates)
    for gate in gates:
        print(f"{'passed' if gate.passed else 'FAILED'}: {gate.name}: {gate.detail}")
    print(f"{bundle}: {status}")
    write_manifest(bundle, facts())


def write_models(name: str) -> None:
    """Put the weights of the final model down as safetensors and as the plain state dict that MONAI wants."""
    bundle = paths.bundle(name)
    (bundle / WEIGHTS).parent.mkdir(parents=True)
    shutil.copyfile(paths.model(FINAL), bundle / WEIGHTS)
    torch.save(load_file(paths.model(FINAL)), bundle / STATE_DICT)


def write_configs(params: Params, status: str, figures: dict[str, dict[str, object]]) -> None:
    """Write metadata and inference configuration, and the schema that the metadata can be checked against offline."""
    bundle = paths.bundle(params.release.name)
    geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
    calibrator = paths.read_json(paths.CALIBRATOR)
    temperature, activation = calibrator["temperature"], calibrator["activation"]
    metadata = metadata_config(
        name=params.release.name,
        version=params.release.version,
        description=params.release.description,
        intended_use=params.release.intended_use,
        classes=paths.read_json(paths.COHORT_FACTS)["classes"],
        planes=geometry.planes,
        image_size=geometry.image_size,
        kind=geometry.kind,
        temperature=temperature,
        status=status,
        eval_metrics=figures,
        provenance=paths.read_json(paths.adaptation(FINAL))["provenance"],
        activation=activation,
    )
    steps = Steps.from_json({"geometry": geometry.as_json(), **paths.read_json(paths.READING)})
    network = paths.read_json(paths.network(FINAL))
    inference = inference_config(preparation_config(steps), network, temperature, activation)
    for file, values in ((METADATA, metadata), (INFERENCE, inference)):
        paths.write_json(values, bundle / file)
    shutil.copyfile(SCHEMA_FILE, bundle / SCHEMA)


def write_documents(params: Params, status: str, figures: dict[str, dict[str, object]], gates: list[Gate]) -> None:
    """Write model card, licence and status."""
    bundle = paths.bundle(params.release.name)
    adaptation, calibrator = paths.read_json(paths.adaptation(FINAL)), paths.read_json(paths.CALIBRATOR)
    card = write_card(
        {
            **params.release.model_dump(include={"name", "version", "description", "intended_use"}),
            "status": status,
            "figures": figures,
            "gates": [asdict(gate) for gate in gates],
            "geometry": paths.read_json(paths.GEOMETRY),
            "classes": paths.read_json(paths.COHORT_FACTS)["classes"],
            "facts": paths.read_json(paths.COHORT_FACTS),
            "split": paths.read_json(paths.SPLIT_SUMMARY),
            "stamps": paths.read_json(paths.STAMPS),
            "adaptation": adaptation,
            "recipe": paths.read_json(paths.recipe(FINAL)),
            "provenance": adaptation["provenance"],
            "parameters": f"{sum(value.numel() for value in load_file(paths.model(FINAL)).values()):,}",
            "temperature": calibrator["temperature"],
            "per_patient": params.calibrate.per_patient,
            "task": paths.read_json(paths.COHORT_FACTS)["task"],
            "fitted_on": calibrator["fitted_on"]["cases"],
            "confidence": params.calibrate.confidence,
        }
    )
    (bundle / "docs").mkdir()
    (bundle / "docs" / "README.md").write_text(card)
    (bundle / "STATUS").write_text(f"{status}\n" + "".join(f"{json.dumps(asdict(gate))}\n" for gate in gates))
    (bundle / "LICENSE").write_text(
        "The weights derive from a pretrained encoder; its licence and source stand in docs/README.md.\n"
        "The licence of this model is to be chosen by the people who release it.\n"
    )


def facts() -> dict[str, object]:
    """Say what the model was made from and with."""
    return {
        "data": {
            "cases": sha256_of(paths.CASES),
            "index": sha256_of(paths.INDEX),
            "split": sha256_of(paths.split(FINAL)),
        },
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
