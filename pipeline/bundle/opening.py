"""The way back from a bundle's folder to its parts, none of which is believed or executed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.allowed import MOVED, PREPARATION, foreign_code, foreign_file
from pipeline.bundle.layout import (
    INFERENCE,
    METADATA,
    REFERENCE,
    WEIGHTS,
    Config,
    activation_of,
    calibration_steps,
    target_of,
)
from pipeline.bundle.manifest import BrokenBundle, verify_manifest


@dataclass(frozen=True)
class Opened:
    """A bundle whose checksums held.

    Attributes
    ----------
    preparation : dict
        Arguments of `pipeline.bundle.PrepareScand`, from the file to the network's input.
    network : dict
        Arguments of `pipeline.bundle.Classifier`, or of `pipeline.bundle.Ensemble`: `members`.
    weights : Path
        The safetensors file.
    calibrator : dict
        What `calibrator_from` of `pipeline.assessing` takes: the map's method, activation and numbers.
    classes : list of str
    kind : str
        "volume" or "image".
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


def open_bundle(folder: Path) -> Opened:
    """Check a bundle's hashes, then read its configuration; nothing in it is executed.

    Raises
    ------
    BrokenBundle
        If a file changed or is none of a bundle's, or the configuration names code that is not on the allow-list.
    """
    if not folder.is_dir():
        raise BrokenBundle(f"the bundle {folder} is not there")
    if foreign := foreign_file(verify_manifest(folder)["files"]):
        raise BrokenBundle(f"{folder / foreign} is none of the files of a bundle, and not allowed there")
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
    for file, values in ((METADATA, metadata), (INFERENCE, inference)):
        if code := foreign_code(values):
            if code.startswith(MOVED):
                raise BrokenBundle(
                    f"{folder} was released by an earlier version of medadapt: its {file} names '{code}', which has "
                    "moved since. Release the model again with this version (`dvc repro release`), or open the bundle "
                    "with the version that its MANIFEST.json names"
                )
            raise BrokenBundle(f"{folder / file} names '{code}', which is not allowed")
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


def calibrator_in(calibration: Config) -> Config:
    """Read the values of the map; releases before there were several activations name none, and mean softmax."""
    values = {"activation": activation_of(calibration), **calibration}
    return {name: value for name, value in values.items() if name != "sha256"}


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
