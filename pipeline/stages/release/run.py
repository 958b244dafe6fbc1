"""release: pass the gates, then pack what was evaluated with everything that is needed to run it and to doubt it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import pipeline
from pipeline import paths
from pipeline.bundle.layout import (
    EXPECTED,
    INFERENCE,
    LIMITS,
    METADATA,
    REFERENCE,
    SCHEMA,
    SCHEMA_FILE,
    STATE_DICT,
    WEIGHTS,
    inference_config,
    metadata_config,
    state_of_members,
)
from pipeline.bundle.limits import Limits
from pipeline.bundle.manifest import code_in, environment, sha256_of, write_manifest
from pipeline.bundle.scoring import logits_by, looks_by, outcomes, processor
from pipeline.bundle.signature import CannotSign, sign
from pipeline.bundle.transforms import preparation_config
from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.metrics.calibrators.calibrator import calibrator_from, digest_of
from pipeline.metrics.evaluation import TaskSpec
from pipeline.params import PARAMS_FILE
from pipeline.schema import FINAL, Params
from pipeline.stages.cohort.originals import original_files
from pipeline.stages.release.archive import AlreadyKept, keep
from pipeline.stages.release.card import write_card
from pipeline.stages.release.characteristics import characteristics
from pipeline.stages.release.enclosed import rows_with, write_evidence
from pipeline.stages.release.exporting import development_cases, export, known_sites
from pipeline.stages.release.gating import ModelOutput, evaluate
from pipeline.stages.release.ood_scans import held_back
from pipeline.stages.release.operating_limits import counted, limits_of
from pipeline.stages.release.parity import preparation_parity
from pipeline.stages.release.phantoms import write_phantoms
from pipeline.stages.release.sbom import SBOM, bill_of_materials

Config = dict[str, Any]

METRICS_OF_A_DECISION = ("threshold", "sensitivity", "specificity", "ppv", "npv")

# Of a logit, on a processor of another kind; it moves no probability by more than a quarter of it.
TOLERANCE = 1e-3


def run(params: Params) -> None:
    """Write data/released/<name>, a MONAI Bundle."""
    calibrated = paths.read_json(paths.CALIBRATOR)
    if calibrated["form"] == "refit" and FINAL not in params.split.folds:
        raise UserError(f"split.folds: add '{FINAL}', the model that is released, or set calibrate.form to ensemble")
    bundle = paths.bundle(params.release.name)
    shutil.rmtree(bundle, ignore_errors=True)
    output = evaluate(params.release, calibrated["members"])
    write_models(params.release.name, calibrated)
    exports = write_exports(params, calibrated)
    same = preparation_parity(preparation(), original_files(params.cohort), development_cases(calibrated["members"]))
    write_configs(params, output, calibrated, exports, same)
    write_limits(params, calibrated)
    write_documents(params, output, calibrated, exports, same)
    gates = [asdict(gate) for gate in output.gates]
    write_evidence(bundle, calibrated, output.metrics, gates, settings_of(params))
    try_on_phantoms(bundle)
    for gate in output.gates:
        print(f"{gate.name}: {gate.verdict}; {gate.detail}")
    print(f"{bundle}: {output.status}")
    write_manifest(bundle, facts(calibrated["members"]))
    sign_and_keep(params, bundle)


def settings_of(params: Params) -> Config:
    """Give the parameters that made the model; where its weights lay is told by their provenance, without a path."""
    return {
        "seed": params.seed,
        "preprocess": params.preprocess.model_dump(mode="json"),
        "adapt": params.adapt.model_dump(mode="json", exclude={"weights"}),
        "finetune": params.finetune.model_dump(mode="json"),
    }


def sign_and_keep(params: Params, bundle: Path) -> None:
    """Sign the bundle and put it into the archive of versions, where that is asked for."""
    try:
        if params.release.signing_key:
            sign(bundle, Path(params.release.signing_key).expanduser(), Path.cwd())
        if params.release.keep:
            print(keep(bundle, Path(params.release.keep).expanduser(), params.release.name, params.release.version))
    except (CannotSign, AlreadyKept) as error:
        raise UserError(str(error)) from error


def write_models(name: str, calibrated: Config) -> None:
    """Put the weights of all members down as safetensors and as the plain state dict that MONAI wants."""
    bundle = paths.bundle(name)
    (bundle / WEIGHTS).parent.mkdir(parents=True)
    states = [load_file(paths.model(member)) for member in calibrated["members"]]
    state = state_of_members(states) if calibrated["form"] == "ensemble" else states[0]
    save_file(state, bundle / WEIGHTS)
    torch.save(state, bundle / STATE_DICT)


def network_of(calibrated: Config) -> Config:
    """Give the arguments that rebuild the network: of the one model, or of every member."""
    networks = [paths.read_json(paths.network(member)) for member in calibrated["members"]]
    return {"members": networks} if calibrated["form"] == "ensemble" else dict(networks[0])


def write_exports(params: Params, calibrated: Config) -> Config:
    """Write the network for programs without medadapt, and say how equal each export is or why there is none."""
    calibrator, classes = calibrator_from(calibrated).as_json(), paths.read_json(paths.COHORT_FACTS)["classes"]
    facts = params.release.model_dump(include={"name", "version"}) | {"classes": classes, "calibration": calibrator}
    cases = development_cases(calibrated["members"])
    weights = paths.bundle(params.release.name) / WEIGHTS
    exports = export(params.release.exports, network_of(calibrated), weights, calibrator, facts, cases)
    for kind, told in exports.items():
        print(f"{kind}: {told.get('not_shipped') or told['file']}")
    return exports


def write_configs(params: Params, output: ModelOutput, calibrated: Config, exports: Config, same: Config) -> None:
    """Write metadata and inference configuration, and the schema that the metadata can be checked against offline."""
    bundle = paths.bundle(params.release.name)
    geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
    calibrator = calibrator_from(calibrated)
    metadata = metadata_config(
        name=params.release.name,
        version=params.release.version,
        description=params.release.description,
        intended_use=output.statements["intended_use"],
        classes=paths.read_json(paths.COHORT_FACTS)["classes"],
        channels=geometry.stored_channels,
        image_size=geometry.image_size,
        kind=geometry.kind,
        calibration=calibrator.as_json() | {"sha256": digest_of(calibrator)},
        status=output.status,
        gates=[asdict(gate) for gate in output.gates],
        eval_metrics=output.metrics,
        provenance=provenance_of(calibrated),
        released={key: calibrated[key] for key in ("form", "members", "fitted_on")},
        exports=exports,
        preparation_parity=same,
    )
    inference = inference_config(preparation(), network_of(calibrated), calibrator.as_json())
    for file, values in ((METADATA, metadata), (INFERENCE, inference)):
        paths.write_json(values, bundle / file)
    shutil.copyfile(SCHEMA_FILE, bundle / SCHEMA)


def write_limits(params: Params, calibrated: Config) -> None:
    """Write the limits of use, on what they were tried, and what `monitor` holds new scans against."""
    bundle, use = paths.bundle(params.release.name), limits_of(params, calibrated)
    paths.write_json(use.pop("reference"), bundle / REFERENCE)
    network, steps = packed(bundle)
    look, limits = looks_by(network, bundle / WEIGHTS, steps), Limits.from_json(use["limits"])
    foreign = held_back(look, limits, steps["geometry"]["kind"])
    use["tried"] += [counted(what, *pair) for what, pair in foreign.items()]
    paths.write_json(use | {"foreign": len(foreign)}, bundle / LIMITS)


def packed(bundle: Path) -> tuple[Config, Config]:
    """Read the arguments of network and preparation back from the bundle."""
    inference = paths.read_json(bundle / INFERENCE)
    [steps], network = inference["preprocessing"]["transforms"], inference["network_def"]
    for part in (network, steps):
        part.pop("_target_")
    return network, steps


def preparation() -> Config:
    """Write what was done to every scan as the transform of the bundle."""
    steps = {"geometry": paths.read_json(paths.GEOMETRY), **paths.read_json(paths.READING)}
    return preparation_config(Preprocessor.from_json(steps))


def provenance_of(calibrated: Config) -> Config:
    """Say what the model started from; members of one run all start from the same."""
    provenance: Config = paths.read_json(paths.adaptation(calibrated["members"][0]))["provenance"]
    return provenance


def member(name: str) -> Config:
    """Say how a model was adapted and trained."""
    known = {"adaptation": paths.adaptation, "recipe": paths.recipe}
    return {"name": name} | {what: paths.read_json(file(name)) for what, file in known.items()}


def write_documents(params: Params, output: ModelOutput, calibrated: Config, exports: Config, same: Config) -> None:
    """Write model card, bill of materials, licence and status."""
    bundle, calibrator = paths.bundle(params.release.name), calibrator_from(calibrated)
    card = write_card(
        {
            **params.release.model_dump(include={"name", "version", "description"}),
            "status": output.status,
            "metrics": output.metrics,
            "gates": [asdict(gate) for gate in output.gates],
            "gates_off": output.off,
            "statements": output.statements,
            "subgroups": rows_with(output.metrics, "subgroups", ("auc", "calibration_slope")),
            "operating_points": rows_with(output.metrics, "operating_points", METRICS_OF_A_DECISION),
            "class_weights": params.finetune.class_weights,
            **data_of(calibrated["members"][0]),
            "geometry": paths.read_json(paths.GEOMETRY),
            "stamps": paths.read_json(paths.STAMPS),
            "form": calibrated["form"],
            "members": [member(name) for name in calibrated["members"]],
            "provenance": provenance_of(calibrated),
            "parameters": f"{sum(value.numel() for value in load_file(bundle / WEIGHTS).values()):,}",
            "exports": exports,
            "preparation_parity": same,
            "signed": params.release.signing_key is not None,
            "sites": known_sites(network_of(calibrated)),
            "calibrator": calibrator.as_json(),
            "digest": digest_of(calibrator),
            "per_patient": paths.read_json(paths.STAMPS)["per_patient"],
            "fitted_on": calibrated["fitted_on"]["cases"],
            "confidence": params.calibrate.confidence,
            "use": paths.read_json(bundle / LIMITS),
            "answered": params.release.answered,
        }
    )
    (bundle / "docs").mkdir()
    (bundle / "docs" / "README.md").write_text(card)
    paths.write_json(bill_of_materials(params.release.name, params.release.version), bundle / SBOM)
    (bundle / "STATUS").write_text(
        "\n".join([output.status, *(json.dumps(asdict(gate)) for gate in output.gates)]) + "\n"
    )
    (bundle / "LICENSE").write_text(
        "The weights derive from a pretrained encoder; its licence and source stand in docs/README.md.\n"
        "The licence of this model is to be chosen by the people who release it.\n"
    )


def data_of(member: str) -> Config:
    """Say whom the model was made from and evaluated on, as they were assigned to a member of it."""
    facts = paths.read_json(paths.COHORT_FACTS)
    return {
        "facts": facts,
        "classes": facts["classes"],
        "task": facts["task"],
        "split": paths.read_json(paths.SPLIT_SUMMARY),
        "characteristics": characteristics(member, TaskSpec(facts["classes"], facts["task"])),
    }


def try_on_phantoms(bundle: Path) -> None:
    """Draw scans of nobody, and write down what the packed model makes of them."""
    network, steps = packed(bundle)
    (bundle / EXPECTED).parent.mkdir()
    files = write_phantoms((bundle / EXPECTED).parent, steps["geometry"]["kind"])
    found = outcomes(logits_by(network, bundle / WEIGHTS, steps), files)
    paths.write_json({"scans": found, "computed_on": processor(), "tolerance": TOLERANCE}, bundle / EXPECTED)


def facts(members: list[str]) -> dict[str, object]:
    """Say what the model was made from and with."""
    return {
        "data": {
            "cases": sha256_of(paths.CASES),
            "index": sha256_of(paths.INDEX),
            "split": {name: sha256_of(paths.split(name)) for name in members},
            "calibrator": sha256_of(paths.CALIBRATOR),
        },
        "params": sha256_of(PARAMS_FILE),
        "code": code_in(Path(pipeline.__file__).parent),
        "environment": environment(),
    }
