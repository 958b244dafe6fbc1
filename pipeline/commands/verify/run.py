"""verify: whether a released bundle is what was released, whole, and predictions here what it did there."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle.layout import CARD, EXPECTED, METADATA, STATUS, schema_error
from pipeline.bundle.manifest import MANIFEST, SEAL, SIGNATURE, BrokenBundle, verify_manifest
from pipeline.bundle.opening import open_bundle
from pipeline.bundle.scoring import logits_by, outcomes, processor
from pipeline.bundle.signature import signer_of
from pipeline.bundle.zipped import unpacked
from pipeline.errors import CheckFailed
from pipeline.stages.release.card import OPEN, missing_sections

Config = dict[str, Any]

UNSIGNED = "unsigned: hashes find accidents, only a signature finds forgery"
UNASKED = "signed, but by whom was not checked: --allowed-signers FILE does; hashes find accidents, not forgery"


def run(arguments: argparse.Namespace) -> None:
    """Print a verdict for each check; nothing is opened before the checksums hold, so the other checks wait for them.

    Raises
    ------
    UserError
        If any check fails.
    """
    try:
        with unpacked(Path(arguments.bundle)) as folder:
            verify(folder, arguments.bundle, arguments.allowed_signers)
    except BrokenBundle as error:
        raise CheckFailed(str(error)) from error


def verify(folder: Path, name: str, signers: str | None) -> None:
    """Check the bundle in a folder, which may have been unpacked from the zip `name`."""
    if not passes("checksums", checksums, folder):
        raise CheckFailed(f"{name} is not what was released; nothing in it was opened")
    if signers and not passes("signature", lambda bundle: f"by {signer_of(bundle, Path(signers))}", folder):
        raise CheckFailed(f"{name} is not vouched for by whom you trust; nothing in it was opened")
    checks = {"configuration": configuration, "metadata": metadata, "status": status, "card": card, "phantoms": replay}
    failed = [name for name, check in checks.items() if not passes(name, check, folder)]
    if failed:
        raise CheckFailed(f"{name} fails by {', '.join(failed)}: do not use it before you know why")
    print(f"{name} is what was released: a {open_bundle(folder).status} model")
    if not signers:
        print(UNASKED if (folder / SIGNATURE).exists() else UNSIGNED)
    print("research use only, not a medical device")


def passes(name: str, check: Callable[[Path], str], folder: Path) -> bool:
    """Run a check, which tells what it found or raises, and print its verdict."""
    try:
        print(f"passed: {name}: {check(folder)}")
    except (BrokenBundle, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"FAILED: {name}: {error}")
        return False
    return True


def checksums(folder: Path) -> str:
    """Hold every file against the manifest, and the manifest against its own hash."""
    manifest = verify_manifest(folder)
    return f"{len(manifest['files'])} files are those of {MANIFEST}, and it is that of {SEAL}"


def configuration(folder: Path) -> str:
    """Make sure that the configuration names no code but our own."""
    opened = open_bundle(folder)
    return f"names no code but our own; a {opened.kind} becomes {', '.join(opened.classes)}"


def metadata(folder: Path) -> str:
    """Hold the metadata against MONAI's schema, as it came with this program and not with the bundle."""
    found = read(folder / METADATA)
    if error := schema_error(found):
        raise BrokenBundle(f"{METADATA} is not what MONAI demands: {error}")
    return f"what MONAI's schema demands ({found['schema'].rpartition('/')[2]})"


def status(folder: Path) -> str:
    """Make sure that all say the same of the status, and that it follows from the gates."""
    found = read(folder / METADATA)
    told, *gates = (folder / STATUS).read_text().splitlines()
    if told != found["status"] or [json.loads(gate) for gate in gates] != found["gates"]:
        raise BrokenBundle(f"{STATUS} and {METADATA} do not say the same")
    if f"**Status: {told}.**" not in (folder / CARD).read_text():
        raise BrokenBundle(f"{CARD} does not say '{told}'")
    missed = [gate["name"] for gate in found["gates"] if not gate["passed"]]
    if told != ("candidate" if missed else "validated"):
        raise BrokenBundle(f"'{told}', though the gates missed are: {', '.join(missed) or 'none'}")
    return f"{told}; gates missed: {', '.join(missed) or 'none'}"


def card(folder: Path) -> str:
    """Make sure that every section of the model card is there, and count what people left open."""
    text = (folder / CARD).read_text()
    if missing := missing_sections(text):
        raise BrokenBundle(f"{CARD} says nothing under {', '.join(missing)}")
    return f"every section is there; left empty by people: {text.count(OPEN)}"


def replay(folder: Path) -> str:
    """Score the phantoms again: bit for bit on a processor of the same kind, within the stated tolerance elsewhere."""
    bundle, expected = open_bundle(folder), read(folder / EXPECTED)
    logits = logits_by(bundle.network, bundle.weights, bundle.preparation)
    found = outcomes(logits, [(folder / EXPECTED).with_name(name) for name in expected["scans"]])
    same = processor() == expected["computed_on"]
    allowed = 0.0 if same else float(expected["tolerance"])
    apart = max(map(distance, expected["scans"].values(), found.values()))
    if not apart <= allowed:
        raise BrokenBundle(f"logits are off by {apart:.3g}, and {allowed:g} is allowed {WHERE[same]}")
    return f"{len(found)} scans, logits off by {apart:.3g}; {allowed:g} is allowed {WHERE[same]}"


WHERE = {True: "on a processor of the same kind, with the same torch", False: "on another kind of processor or torch"}


def distance(expected: Config, found: Config) -> float:
    """Tell how far two outcomes of a scan are apart: by their largest logit, infinitely if only one was scored."""
    if "refused" in expected or "refused" in found:
        return 0.0 if expected == found else np.inf
    return float(np.abs(np.subtract(expected["logits"], found["logits"])).max())


def read(file: Path) -> Config:
    """Read plain values."""
    values: Config = json.loads(file.read_text())
    return values
