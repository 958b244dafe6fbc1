"""release: evaluate the gates, then write the evaluated model as a bundle with its card, evidence and checksums."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import pipeline
from pipeline import paths
from pipeline.bundle.columns import COLUMNS, columns_config, columns_metadata
from pipeline.bundle.layout import (
    CARD,
    EXPECTED,
    INFERENCE,
    LIMITS,
    METADATA,
    REFERENCE,
    SCHEMA,
    SCHEMA_FILE,
    STATE_DICT,
    STATUS,
    WEIGHTS,
    BundleFacts,
    inference_config,
    metadata_config,
)
from pipeline.bundle.limits import OperatingLimits
from pipeline.bundle.manifest import code_in, environment, sha256_of, write_manifest
from pipeline.bundle.masks import needs_of
from pipeline.bundle.predictor import Predictor
from pipeline.bundle.scoring import Scorer, outcomes, processor
from pipeline.bundle.signature import CannotSign, sign
from pipeline.bundle.transforms import preparation_config
from pipeline.errors import UserError, refuse
from pipeline.imaging.geometry import Geometry
from pipeline.metrics.calibrators.calibrator import digest_of
from pipeline.metrics.evaluation import TaskSpec
from pipeline.params import PARAMS_FILE, cohort_digest
from pipeline.progress import activity
from pipeline.schema import FINAL, Params
from pipeline.seeds import seed_for
from pipeline.stages.cohort.originals import original_files, original_masks
from pipeline.stages.release.archive import AlreadyKept, keep, let_others_read
from pipeline.stages.release.card import write_card
from pipeline.stages.release.evidence_folder import write_evidence
from pipeline.stages.release.exporting import compared_cases, export
from pipeline.stages.release.gating import Assessment, assess, statements_for
from pipeline.stages.release.key_facts import to_know
from pipeline.stages.release.model import ReleasedModel, masks_of, preprocessor, read_released
from pipeline.stages.release.ood_scans import held_back
from pipeline.stages.release.operating_limits import counted, limits_of
from pipeline.stages.release.operating_point import operating_point
from pipeline.stages.release.origin import origins_in
from pipeline.stages.release.parity import preparation_parity
from pipeline.stages.release.phantoms import write_phantoms
from pipeline.stages.release.placing import others_of, problems_of_place, written_whole
from pipeline.stages.release.results import Results, card_values
from pipeline.stages.release.sbom import SBOM, bill_of_materials

Config = dict[str, Any]

# Largest difference of a logit on another kind of processor; a probability changes by at most a quarter of it.
TOLERANCE = 1e-3


def run(params: Params) -> None:
    """Write data/released/<name>, a MONAI Bundle."""
    model = read_released()
    if model.form == "refit" and FINAL not in params.split.folds:
        raise UserError(f"split.folds: add '{FINAL}', the model that is released, or set calibrate.form to ensemble")
    place, cohort = paths.bundle(params.release.name), cohort_digest(params.cohort.path)
    refuse(problems_of_place(place, cohort))
    statements = statements_for(params.release.gates.card)
    activity("operating limits")
    limits = limits_of(params, model)
    assessment = assess(params, model, statements, limits)
    with written_whole(place) as bundle:
        write_bundle(bundle, params, model, assessment, limits=limits)
        sign_and_keep(params, bundle)
    for gate in assessment.gates:
        print(f"{gate.name}: {gate.verdict}; {gate.detail}")
    print(f"{place}: {assessment.status}")
    for other in others_of(place, cohort):
        print(f"{other} is a model of the same cohort; remove it if it is no longer needed")


def write_bundle(bundle: Path, params: Params, model: ReleasedModel, assessment: Assessment, *, limits: Config) -> None:
    """Write every file of the bundle, the manifest last."""
    write_models(bundle, model)
    activity("exports")
    seed = seed_for(params.seed, "release", "compared cases")
    compared = compared_cases(model.members, params.release.compared_cases, seed)
    exports = write_exports(bundle, params, model, compared)
    activity("parity of preprocessing")
    parity = preparation_parity(preparation(), original_files(params.cohort), compared, original_masks(params.cohort))
    results = Results(assessment, exports, parity, datetime.now(UTC).date().isoformat())
    write_configs(bundle, params, model, results)
    activity("tests of the limits, documents")
    write_limits(bundle, model, limits, assessment.status)
    write_documents(bundle, params, model, results)
    write_evidence(bundle, members=model.members, assessment=assessment, settings=settings_of(params))
    activity("scores of simulated scans")
    score_phantoms(bundle)
    write_manifest(bundle, facts(model.members))


def settings_of(params: Params) -> Config:
    """Collect the parameters that made the model, without the paths of its weights: their provenance names them."""
    return {
        "seed": params.seed,
        "preprocess": params.preprocess.model_dump(mode="json"),
        "adapt": params.adapt.model_dump(mode="json", exclude={"weights"}),
        "finetune": params.finetune.model_dump(mode="json", exclude={"second_encoder": {"weights"}}),
    }


def sign_and_keep(params: Params, bundle: Path) -> None:
    """Sign the bundle, let others read it, and copy it into the archive of versions, if params.yaml asks for it."""
    try:
        if params.release.signing_key:
            sign(bundle, Path(params.release.signing_key).expanduser(), Path.cwd())
        let_others_read(bundle)
        if params.release.keep:
            print(keep(bundle, Path(params.release.keep).expanduser(), params.release.name, params.release.version))
    except (CannotSign, AlreadyKept) as error:
        raise UserError(str(error)) from error


def write_models(bundle: Path, model: ReleasedModel) -> None:
    """Write the weights of all members as safetensors, and as the state dict that MONAI loads."""
    (bundle / WEIGHTS).parent.mkdir(parents=True)
    state = model.state()
    save_file(state, bundle / WEIGHTS)
    torch.save(state, bundle / STATE_DICT)


def write_exports(bundle: Path, params: Params, model: ReleasedModel, compared: Sequence[str]) -> Config:
    """Export the network, and tell how close each export is to it on the compared cases, or why there is none."""
    calibrator, classes = model.calibrator.as_json(), paths.read_json(paths.COHORT_FACTS)["classes"]
    exports = export(
        params.release.exports,
        network=model.network,
        weights=bundle / WEIGHTS,
        calibrator=calibrator,
        facts=params.release.model_dump(include={"name", "version"})
        | {"classes": classes, "calibration": calibrator}
        | ({"columns": columns_metadata(model.fusion)} if model.fusion else {})
        | ({"unit": params.cohort.unit} if model.of_output else {})
        | ({} if model.fusion else model.of_output),  # risks and intervals are those of the fused output
        cases=compared,
    )
    for kind, found in exports.items():
        print(f"{kind}: {found.get('not_shipped') or found['file']}")
    return exports


def write_configs(bundle: Path, params: Params, model: ReleasedModel, results: Results) -> None:
    """Write the metadata, their schema, and the inference configuration."""
    assessment = results.assessment
    geometry, cohort = Geometry.from_json(paths.read_json(paths.GEOMETRY)), paths.read_json(paths.COHORT_FACTS)
    task = TaskSpec(cohort["classes"], cohort["task"])
    bundle_facts = BundleFacts(
        name=params.release.name,
        version=params.release.version,
        description=params.release.description,
        cohort=cohort_digest(params.cohort.path),
        intended_use=assessment.statements["intended_use"],
        classes=cohort["classes"],
        channels=geometry.stored_channels,
        image_size=geometry.image_size,
        kind=geometry.kind,
        calibration=model.calibrator.as_json() | {"sha256": digest_of(model.calibrator)},
        status=assessment.status,
        gates=[asdict(gate) for gate in assessment.gates],
        released_on=results.released_on,
        know_before_use=to_know(assessment.facts, assessment.checks),
        eval_metrics=assessment.metrics,
        provenance=model.provenance,
        released={"form": model.form, "members": model.members, "fitted_on": model.fitted_on},
        exports=results.exports,
        preparation_parity=results.preparation_parity,
        operating_point={} if model.of_output else operating_point(params, task),
        per_patient=paths.read_json(paths.STAMPS)["per_patient"],
        columns=columns_metadata(model.fusion) if model.fusion else {},
        masks=masks_of(model).as_json(),
        unit=cohort.get("unit", ""),
        **model.of_output,
    )
    if model.fusion:
        paths.write_json(columns_config(model.fusion, len(cohort["classes"])), bundle / COLUMNS)
    paths.write_json(metadata_config(bundle_facts), bundle / METADATA)
    inference = inference_config(preparation(), model.network, model.calibrator.as_json())
    paths.write_json(inference, bundle / INFERENCE)
    shutil.copyfile(SCHEMA_FILE, bundle / SCHEMA)


def write_limits(bundle: Path, model: ReleasedModel, values: Config, status: str) -> None:
    """Write the operating limits with the results of their tests, and the reference of monitoring."""
    paths.write_json(values["reference"], bundle / REFERENCE)
    network, steps = configured(bundle)
    score = Scorer(network, bundle / WEIGHTS, steps)
    predictor = Predictor(
        classes=paths.read_json(paths.COHORT_FACTS)["classes"],
        score=score,
        calibrator=model.fusion or model.calibrator,
        limits=OperatingLimits.from_json(values["limits"]),
        status=status,
        masks=needs_of(score.steps, model.fusion),
    )
    scans = held_back(predictor, steps["geometry"]["kind"])
    tested = values["tested"] + [counted(what, pair) for what, pair in scans.items()]
    known = {name: values[name] for name in ("limits", "answered")}
    paths.write_json(known | {"tested": tested, "kinds_of_ood_scans": len(scans)}, bundle / LIMITS)


def configured(bundle: Path) -> tuple[Config, Config]:
    """Read the arguments of network and preprocessing back from the bundle."""
    inference = paths.read_json(bundle / INFERENCE)
    [steps], network = inference["preprocessing"]["transforms"], inference["network_def"]
    for part in (network, steps):
        part.pop("_target_")
    return network, steps


def preparation() -> Config:
    """Write the preprocessing of every scan as the transform of the bundle."""
    return preparation_config(preprocessor())


def write_documents(bundle: Path, params: Params, model: ReleasedModel, results: Results) -> None:
    """Write the model card, the bill of materials, the licence and the status."""
    assessment = results.assessment
    (bundle / CARD).parent.mkdir()
    (bundle / CARD).write_text(write_card(card_values(bundle, params, model, results)))
    (bundle / SBOM).write_text(bill_of_materials(params.release.name, params.release.version))
    lines = [assessment.status, *(json.dumps(asdict(gate)) for gate in assessment.gates)]
    (bundle / STATUS).write_text("\n".join(lines) + "\n")
    (bundle / "LICENSE").write_text(
        "".join(
            f"The weights derive from {one['encoder']} ({one['source']}); their licence: {one['licence']}.\n"
            for one in origins_in(model.provenance)
        )
        + "The licence of this model is to be chosen by the people who release it.\n"
    )


def score_phantoms(bundle: Path) -> None:
    """Simulate scans, and write down how the released model scores them."""
    network, steps = configured(bundle)
    (bundle / EXPECTED).parent.mkdir()
    files = write_phantoms((bundle / EXPECTED).parent, steps["geometry"]["kind"])
    score = Scorer(network, bundle / WEIGHTS, steps)
    found = outcomes(score, files, needs_of(score.steps, None).of_simulated)
    paths.write_json({"scans": found, "computed_on": processor(), "tolerance": TOLERANCE}, bundle / EXPECTED)


def facts(members: Sequence[str]) -> dict[str, object]:
    """Collect the hashes of data, parameters and code, and the environment."""
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
