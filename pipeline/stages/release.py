"""release: pass the gates, then pack what was judged with everything that is needed to run it and to doubt it."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import pipeline
from pipeline import paths
from pipeline.assessing.calibrating.calibration_maps import calibrator_from, digest_of
from pipeline.assessing.gates import Gate, Shown, check_gates
from pipeline.enclosed import read_figures, subgroup_rows, write_evidence
from pipeline.exporting import development_cases, export, known_sites
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.phantoms import write_phantoms
from pipeline.imaging.preparation import Steps
from pipeline.imaging.transforms import preparation_config
from pipeline.limits_of_use import limits_of
from pipeline.originals import original_files
from pipeline.params import PARAMS_FILE
from pipeline.parity import preparation_parity
from pipeline.refusal import Refusal
from pipeline.releasing.archive import AlreadyKept, keep
from pipeline.releasing.bundle import (
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
from pipeline.releasing.card import write_card
from pipeline.releasing.manifest import code_in, environment, sha256_of, write_manifest
from pipeline.releasing.sbom import SBOM, bill_of_materials
from pipeline.releasing.signature import CannotSign, sign
from pipeline.releasing.statements import FIELDS, BadStatements, read_statements
from pipeline.schema import FINAL, Gates, Params
from pipeline.scoring import logits_by, outcomes, processor

Config = dict[str, Any]

# Of a logit, on a processor of another kind; it moves no probability by more than a quarter of it.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Judgement:
    """What is known of the model when it is packed: gates, those switched `off`, figures by scope, what people said."""

    gates: list[Gate]
    off: list[str]
    figures: dict[str, Config]
    statements: dict[str, str]

    @property
    def status(self) -> str:
        """Call it validated if it passes every gate."""
        return "validated" if all(gate.passed for gate in self.gates) else "candidate"


def run(params: Params) -> None:
    """Write data/released/<name>, a MONAI Bundle."""
    calibrated = paths.read_json(paths.CALIBRATOR)
    if calibrated["form"] == "refit" and FINAL not in params.split.folds:
        raise Refusal(f"split.folds: add '{FINAL}', the model that is released, or set calibrate.form to ensemble")
    bundle = paths.bundle(params.release.name)
    shutil.rmtree(bundle, ignore_errors=True)
    judgement = judge(params.release.gates)
    write_models(params.release.name, calibrated)
    exports = write_exports(params, calibrated)
    same = preparation_parity(preparation(), original_files(params.cohort), development_cases(calibrated["members"]))
    write_configs(params, judgement, calibrated, exports, same)
    use = limits_of(params, calibrated)
    paths.write_json(use.pop("reference"), bundle / REFERENCE)
    paths.write_json(use, bundle / LIMITS)
    write_documents(params, judgement, calibrated, exports, same)
    gates = [asdict(gate) for gate in judgement.gates]
    write_evidence(bundle, calibrated, judgement.figures, gates)
    try_on_phantoms(bundle)
    for gate in judgement.gates:
        print(f"{gate.name}: {gate.verdict}; {gate.detail}")
    print(f"{bundle}: {judgement.status}")
    write_manifest(bundle, facts(calibrated["members"]))
    sign_and_keep(params, bundle)


def sign_and_keep(params: Params, bundle: Path) -> None:
    """Sign the bundle and put it into the archive of versions, where that is asked for."""
    try:
        if params.release.signing_key:
            sign(bundle, Path(params.release.signing_key).expanduser(), Path.cwd())
        if params.release.keep:
            print(keep(bundle, Path(params.release.keep).expanduser(), params.release.name, params.release.version))
    except (CannotSign, AlreadyKept) as error:
        raise Refusal(str(error)) from error


def judge(limits: Gates) -> Judgement:
    """Hold figures, stamps and what people said against the gates; a failing one blocks nothing."""
    stamps = paths.read_json(paths.STAMPS)
    figures = {scope: paths.read_json(paths.pooled_metrics(f"{scope}_calibrated")) for scope in stamps["scopes"]}
    statements = statements_for(limits.card)
    gates = check_gates(shown(figures, stamps, statements), limits.model_dump())
    off = [name for name, limit in limits.model_dump().items() if limit is None]
    return Judgement(gates, off, figures, statements)


def statements_for(required: tuple[str, ...] | None) -> dict[str, str]:
    """Read card.yaml, and make sure that the fields which a gate asks for are fields."""
    if unknown := set(required or ()) - set(FIELDS):
        raise Refusal(f"release.gates.card names '{min(unknown)}'; the fields of a card are {', '.join(FIELDS)}")
    try:
        return read_statements(paths.STATEMENTS)
    except BadStatements as error:
        raise Refusal(str(error)) from error


def shown(figures: dict[str, Config], stamps: Config, statements: dict[str, str]) -> Shown:
    """Collect what the gates judge: patients where they have figures of their own, else images."""
    level = "_patients" if "internal_patients" in figures else ""
    locked = f"{stamps['locked_set']['scope']}{level}"
    classes, subgroups = (read_figures(file) for file in (paths.PER_CLASS, paths.assessed("subgroups")))
    return Shown(
        internal=figures[f"internal{level}"],
        locked=figures.get(locked),
        stamps=stamps,
        leaks=len(stamps["locked_set"]["acknowledged_leaks"]),
        copies=paths.read_json(paths.SPLIT_SUMMARY)["copies_across_locked_door"],
        classes=classes[classes["scope"] == f"internal{level}"],
        subgroups=subgroups[subgroups["scope"].isin([f"internal{level}", locked])],
        statements=statements,
    )


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


def write_configs(params: Params, judgement: Judgement, calibrated: Config, exports: Config, same: Config) -> None:
    """Write metadata and inference configuration, and the schema that the metadata can be checked against offline."""
    bundle = paths.bundle(params.release.name)
    geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
    calibrator = calibrator_from(calibrated)
    metadata = metadata_config(
        name=params.release.name,
        version=params.release.version,
        description=params.release.description,
        intended_use=judgement.statements["intended_use"],
        classes=paths.read_json(paths.COHORT_FACTS)["classes"],
        planes=geometry.planes,
        image_size=geometry.image_size,
        kind=geometry.kind,
        calibration=calibrator.as_json() | {"sha256": digest_of(calibrator)},
        status=judgement.status,
        gates=[asdict(gate) for gate in judgement.gates],
        eval_metrics=judgement.figures,
        provenance=provenance_of(calibrated),
        released={key: calibrated[key] for key in ("form", "members", "fitted_on")},
        exports=exports,
        preparation_parity=same,
    )
    inference = inference_config(preparation(), network_of(calibrated), calibrator.as_json())
    for file, values in ((METADATA, metadata), (INFERENCE, inference)):
        paths.write_json(values, bundle / file)
    shutil.copyfile(SCHEMA_FILE, bundle / SCHEMA)


def preparation() -> Config:
    """Write what was done to every scan as the transform of the bundle."""
    steps = {"geometry": paths.read_json(paths.GEOMETRY), **paths.read_json(paths.READING)}
    return preparation_config(Steps.from_json(steps))


def provenance_of(calibrated: Config) -> Config:
    """Say what the model started from; members of one run all start from the same."""
    provenance: Config = paths.read_json(paths.adaptation(calibrated["members"][0]))["provenance"]
    return provenance


def member(name: str) -> Config:
    """Say how a model was adapted and trained."""
    known = {"adaptation": paths.adaptation, "recipe": paths.recipe}
    return {"name": name} | {what: paths.read_json(file(name)) for what, file in known.items()}


def write_documents(params: Params, judgement: Judgement, calibrated: Config, exports: Config, same: Config) -> None:
    """Write model card, bill of materials, licence and status."""
    bundle, calibrator = paths.bundle(params.release.name), calibrator_from(calibrated)
    card = write_card(
        {
            **params.release.model_dump(include={"name", "version", "description"}),
            "status": judgement.status,
            "figures": judgement.figures,
            "gates": [asdict(gate) for gate in judgement.gates],
            "gates_off": judgement.off,
            "statements": judgement.statements,
            "subgroups": subgroup_rows(judgement.figures),
            "geometry": paths.read_json(paths.GEOMETRY),
            "classes": paths.read_json(paths.COHORT_FACTS)["classes"],
            "facts": paths.read_json(paths.COHORT_FACTS),
            "split": paths.read_json(paths.SPLIT_SUMMARY),
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
            "task": paths.read_json(paths.COHORT_FACTS)["task"],
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
        "\n".join([judgement.status, *(json.dumps(asdict(gate)) for gate in judgement.gates)]) + "\n"
    )
    (bundle / "LICENSE").write_text(
        "The weights derive from a pretrained encoder; its licence and source stand in docs/README.md.\n"
        "The licence of this model is to be chosen by the people who release it.\n"
    )


def try_on_phantoms(bundle: Path) -> None:
    """Draw scans of nobody, and write down what the packed model makes of them."""
    inference = paths.read_json(bundle / INFERENCE)
    [preparation], network = inference["preprocessing"]["transforms"], inference["network_def"]
    for part in (preparation, network):
        part.pop("_target_")
    (bundle / EXPECTED).parent.mkdir()
    files = write_phantoms((bundle / EXPECTED).parent, preparation["geometry"]["kind"])
    found = outcomes(logits_by(network, bundle / WEIGHTS, preparation), files)
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
