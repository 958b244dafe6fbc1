"""Verify a released bundle: checksums, signature, configuration, metadata, status, card and stored predictions."""

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.bundle.columns import COLUMNS, check_examples, typical_inputs
from pipeline.bundle.layout import CARD, EXPECTED, METADATA, REFERENCE, STATE_DICT, STATUS, WEIGHTS, schema_error
from pipeline.bundle.manifest import MANIFEST, SEAL, SIGNATURE, BrokenBundle, UnreadableBundle, verify_manifest
from pipeline.bundle.masks import needs_of
from pipeline.bundle.opening import open_bundle
from pipeline.bundle.plain import read_plain
from pipeline.bundle.predictor import Predictor
from pipeline.bundle.scoring import Scorer, outcomes, processor
from pipeline.bundle.signature import signer_of
from pipeline.bundle.zipped import unpacked
from pipeline.commands.files import check_readable
from pipeline.errors import CheckFailed, UserError
from pipeline.stages.release.card import OPEN, missing_sections

Config = dict[str, Any]

UNSIGNED = "unsigned: hashes detect accidental changes, only a signature detects forgery"
UNASKED = "signed, but the signer was not checked: use --allowed-signers FILE; hashes do not detect forgery"


def run(arguments: argparse.Namespace) -> None:
    """Run each check and print its verdict. The bundle is opened only after the checksums hold.

    Raises
    ------
    CheckFailed
        If any check fails.
    UserError
        If the bundle or the file of allowed signers does not exist or cannot be read.
    """
    check_readable(arguments.bundle)
    if arguments.allowed_signers:
        check_readable(arguments.allowed_signers, "--allowed-signers")
    try:
        with unpacked(Path(arguments.bundle), arguments.max_size) as folder:
            verify(folder, arguments.bundle, arguments.allowed_signers)
    except UnreadableBundle as error:
        raise UserError(str(error)) from error
    except BrokenBundle as error:
        raise CheckFailed(str(error)) from error


def verify(folder: Path, name: str, signers: str | None) -> None:
    """Check the bundle in a folder; `name` is the folder or zip that the user named."""
    if not passes("checksums", checksums, folder):
        raise CheckFailed(f"{name} differs from the released bundle; it was not opened")
    if signers and not passes("signature", lambda bundle: f"by {signer_of(bundle, Path(signers))}", folder):
        raise CheckFailed(f"{name} is not signed by a trusted signer; it was not opened")
    checks = {
        "configuration": configuration,
        "metadata": metadata,
        "status": status,
        "model card": card,
        "other files": other_files,
        "state dict": state_dict,
        "predictions": predictions,
        "same predictions": replay,
    }
    if (folder / COLUMNS).exists():
        checks["columns"] = check_examples
    failed = [name for name, check in checks.items() if not passes(name, check, folder)]
    if failed:
        raise CheckFailed(f"{name}: failed checks: {', '.join(failed)}; find the cause before you use the bundle")
    print(f"{name} is unchanged since its release; model status: {open_bundle(folder).status}")
    if not signers:
        print(UNASKED if (folder / SIGNATURE).exists() else UNSIGNED)
    print("research use only, not a medical device")


def passes(name: str, check: Callable[[Path], str], folder: Path) -> bool:
    """Run a check, which returns its finding or raises, and print the verdict."""
    try:
        print(f"passed: {name}: {check(folder)}")
    except UnreadableBundle:  # it says nothing about the contents
        raise
    except (BrokenBundle, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        print(f"FAILED: {name}: {error}")
        return False
    return True


def checksums(folder: Path) -> str:
    """Compare every file with the manifest, and the manifest with its hash."""
    manifest = verify_manifest(folder)
    return f"{len(manifest['files'])} files match {MANIFEST}, which matches {SEAL}"


def configuration(folder: Path) -> str:
    """Check that the configuration names only allowed code of medadapt."""
    opened = open_bundle(folder)
    output = opened.told or f"classes: {', '.join(opened.classes)}"
    return f"names only code of medadapt; input: {opened.kind}, {output}"


def metadata(folder: Path) -> str:
    """Validate the metadata against the copy of MONAI's schema in this package, not in the bundle."""
    found = read(folder / METADATA)
    if error := schema_error(found):
        raise BrokenBundle(f"{METADATA} does not follow MONAI's schema: {error}")
    return f"follows MONAI's schema ({found['schema'].rpartition('/')[2]})"


def status(folder: Path) -> str:
    """Check that STATUS, metadata and card state the same status, and that it follows from the gates."""
    found = read(folder / METADATA)
    stated, *gates = (folder / STATUS).read_text().splitlines()
    if stated != found["status"] or [json.loads(gate) for gate in gates] != found["gates"]:
        raise BrokenBundle(f"{STATUS} and {METADATA} disagree")
    if f"**Status: {stated}.**" not in (folder / CARD).read_text():
        raise BrokenBundle(f"{CARD} does not state the status '{stated}'")
    missed = [gate["name"] for gate in found["gates"] if not gate["passed"]]
    if stated != ("candidate" if missed else "validated"):
        raise BrokenBundle(f"status '{stated}' contradicts the missed gates: {', '.join(missed) or 'none'}")
    return f"{stated}; missed gates: {', '.join(missed) or 'none'}"


def card(folder: Path) -> str:
    """Check that the model card has every section, and count the fields that people left empty."""
    text = (folder / CARD).read_text()
    if missing := missing_sections(text):
        raise BrokenBundle(f"{CARD} has no text in these sections: {', '.join(missing)}")
    empty = text.count(OPEN)
    if not empty:
        return "it has all sections, and its authors filled in every field"
    fields = "field" if empty == 1 else "fields"
    return f"it has all sections; its authors left {empty} {fields} of it empty, marked '{OPEN}' in {CARD}"


def other_files(folder: Path) -> str:
    """Read every JSON file, and the reference that `monitor` needs."""
    files = sorted(folder.rglob("*.json"))
    for file in files:
        read_plain(file)
    told = "the reference of monitoring among them" if (folder / REFERENCE).exists() else "no reference of monitoring"
    return f"{len(files)} JSON files are plain and finite; {told}"


def state_dict(folder: Path) -> str:
    """Compare the state dict that MONAI loads with the weights that `predict` loads."""
    try:
        state = torch.load(folder / STATE_DICT, map_location="cpu", weights_only=True)
        weights = load_file(folder / WEIGHTS)
    except (pickle.UnpicklingError, EOFError, SafetensorError) as error:
        raise BrokenBundle(f"{STATE_DICT} or {WEIGHTS} holds no tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or state.keys() != weights.keys():
        raise BrokenBundle(f"{STATE_DICT} has other tensors than {WEIGHTS}")
    if other := next((name for name, value in weights.items() if not torch.equal(value, state[name])), None):
        raise BrokenBundle(f"{STATE_DICT} has another value of {other} than {WEIGHTS}")
    return f"{len(weights)} tensors equal those of {WEIGHTS}"


def predictions(folder: Path) -> str:
    """Predict the phantoms as `predict` does: with calibrator, operating limits and decision."""
    predictor = Predictor.from_opened(open_bundle(folder))
    inputs = typical_inputs(predictor.fusion)
    scans = [folder / EXPECTED.with_name(name) for name in read(folder / EXPECTED)["scans"]]
    region = predictor.masks.of_simulated if predictor.masks else None
    found = [predictor(scan, inputs=inputs, mask=region) for scan in scans]
    shown = [one.probabilities or one.withheld_probabilities or {} for one in found]
    least, most = (-np.inf, np.inf) if predictor.unit else (0.0, 1.0)
    if not all(least <= value <= most for one in shown for value in one.values()):
        raise BrokenBundle("a probability is not between 0 and 1")
    limits = "operating limits" if predictor.limits else "no operating limits"
    return f"{len(found)} simulated scans were predicted with calibrator, {limits} and decision"


def replay(folder: Path) -> str:
    """Predict the phantoms again: same bits on the same kind of processor, else within the stated tolerance."""
    bundle, expected = open_bundle(folder), read(folder / EXPECTED)
    score = Scorer(bundle.network, bundle.weights, bundle.preparation)
    files = [(folder / EXPECTED).with_name(name) for name in expected["scans"]]
    found = outcomes(score, files, needs_of(score.steps, None).of_simulated)
    same = processor() == expected["computed_on"]
    allowed = 0.0 if same else float(expected["tolerance"])
    apart = max(map(distance, expected["scans"].values(), found.values()))
    if not apart <= allowed:
        raise BrokenBundle(f"the model's outputs differ by {apart:.3g}; {allowed:g} is allowed {WHERE[same]}")
    return (
        f"{len(found)} simulated scans in the bundle were predicted again as at the release: outputs differ by "
        f"{apart:.3g}; {allowed:g} is allowed {WHERE[same]}"
    )


WHERE = {True: "on a processor of the same kind, with the same torch", False: "on another kind of processor or torch"}


def distance(expected: Config, found: Config) -> float:
    """Compute the largest difference of logits between two outcomes of a scan; inf if only one was predicted."""
    if "refused" in expected or "refused" in found:
        return 0.0 if expected == found else np.inf
    return float(np.abs(np.subtract(expected["logits"], found["logits"])).max())


def read(file: Path) -> Config:
    """Read a JSON file."""
    values: Config = read_plain(file)
    return values
