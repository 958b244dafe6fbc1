"""Open a bundle: check its files against an allow-list and read its configuration without executing any of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.allowed import MOVED, PREPARATION, unknown_code, unknown_file
from pipeline.bundle.columns import fusion_in
from pipeline.bundle.layout import (
    INFERENCE,
    METADATA,
    REFERENCE,
    WEIGHTS,
    Config,
    activation_of,
    calibration_steps,
    sites_of,
    target_of,
)
from pipeline.bundle.manifest import BrokenBundle, readable, verify_manifest
from pipeline.bundle.operating_point import MOST_PROBABLE, OperatingPoint
from pipeline.bundle.plain import read_plain
from pipeline.metrics.fusion import Fusion


@dataclass(frozen=True)
class Opened:
    """The parts of a bundle whose checksums and configuration were checked.

    Attributes
    ----------
    folder : Path
    preparation : dict
        Arguments of `pipeline.bundle.PrepareScand`, from the file to the network's input.
    network : dict
        Arguments of `pipeline.bundle.Classifier`, of `pipeline.bundle.Portfolio` (`portfolio`), or of
        `pipeline.bundle.Ensemble` (`members`).
    calibrator : dict
        Arguments of `pipeline.bundle.calibrator_from`: method, activation and numbers.
    classes : list of str
    kind : str
        "volume" or "image".
    status : str
        "validated" or "candidate".
    operating_point : OperatingPoint or None
        How probabilities become a decision; None for a bundle that was released without one.
    per_patient : str
        How the logits of a patient's scans are joined: "mean", "max", or "none".
    know_before_use : list of str
        What a user must know first, as sentences.
    fusion : Fusion or None
        How columns and the logits of the image become probabilities; None for a model of the image alone.
    unit : str
        Unit of the number of a regression; empty for classes.
    """

    folder: Path
    preparation: Config
    network: Config
    calibrator: Config
    classes: list[str]
    kind: str
    status: str
    operating_point: OperatingPoint | None = None
    per_patient: str = "none"
    know_before_use: Sequence[str] = ()
    fusion: Fusion | None = None
    unit: str = ""
    risks: bool = False

    @property
    def multilabel(self) -> bool:
        """Whether each label has a probability by itself."""
        return activation_of(self.calibrator) == "sigmoid"

    @property
    def told(self) -> str:
        """What the model gives instead of probabilities of classes; "" if it does not."""
        if not self.unit:
            return ""
        return f"risks until times in {self.unit}" if self.risks else f"a number in {self.unit}"

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites for which the network, or a member of it, has values of its own."""
        return sites_of(self.network)


def open_bundle(folder: Path) -> Opened:
    """Check a bundle's hashes, then read its configuration; nothing in it is executed.

    Raises
    ------
    BrokenBundle
        If a file changed or does not belong in a bundle, or the configuration names code that is not on the
        allow-list.
    UnreadableBundle
        If the system does not let this user read it.
    """
    with readable(folder):
        if not folder.is_dir():
            raise BrokenBundle(f"there is no bundle at {folder}; check the path")
    if unknown := unknown_file(verify_manifest(folder)["files"]):
        raise BrokenBundle(f"{folder / unknown} is not one of the files that a bundle may hold")
    try:
        metadata, inference = (read_plain(folder / file) for file in (METADATA, INFERENCE))
        [preparation] = inference["preprocessing"]["transforms"]
        network = dict(inference["network_def"])
        calibrator = calibrator_in(metadata["calibration"])
        calibrated = inference["postprocessing"]["transforms"] == calibration_steps(calibrator)
        targets = (preparation.pop("_target_", None), network.pop("_target_"))
        opened = Opened(
            folder=folder,
            preparation=preparation,
            network=network,
            calibrator=calibrator,
            classes=list(metadata["classes"]),
            kind=str(metadata["kind"]),
            status=str(metadata["status"]),
            operating_point=operating_point_in(metadata),
            per_patient=str(metadata.get("per_patient", "none")),
            know_before_use=[str(one) for one in metadata.get("know_before_use", [])],
            fusion=fusion_in(folder, metadata, len(metadata["classes"])),
            unit=str(metadata.get("unit", "")),
            risks="risks" in metadata,
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError, FileNotFoundError) as error:
        raise BrokenBundle(f"{folder}: its configuration was not written by medadapt: {error}") from error
    for file, values in ((METADATA, metadata), (INFERENCE, inference)):
        if code := unknown_code(values):
            if code.startswith(MOVED):
                raise BrokenBundle(
                    f"{folder} was released by an earlier version of medadapt: its {file} names '{code}', which has "
                    "moved since. Release the model again with this version (`dvc repro release`), or open the bundle "
                    "with the version that its MANIFEST.json names"
                )
            raise BrokenBundle(f"{folder / file} names '{code}', which is not allowed")
    if not calibrated:
        raise BrokenBundle(f"{folder / INFERENCE} has another calibrator than {METADATA}, which is not allowed")
    refuse_code(opened, preparation=targets[0], network=targets[1])
    return opened


def reference_in(folder: Path) -> Config:
    """Read the reference distributions of monitoring from a bundle whose hashes were checked.

    Raises
    ------
    BrokenBundle
        If the bundle was released without them.
    """
    if not (folder / REFERENCE).exists():
        raise BrokenBundle(f"{folder} has no {REFERENCE}; release the model again with this version of medadapt")
    reference: Config = read_plain(folder / REFERENCE)
    return reference


def operating_point_in(metadata: Config) -> OperatingPoint | None:
    """Read the operating point; with more than two exclusive classes none is needed for a decision."""
    multilabel = activation_of(metadata["calibration"]) == "sigmoid"
    if values := metadata.get("operating_point"):
        return OperatingPoint.from_json(values, multilabel)
    exclusive = not multilabel and len(metadata["classes"]) > 2
    return OperatingPoint(MOST_PROBABLE, {}) if exclusive else None


def calibrator_in(calibration: Config) -> Config:
    """Read the arguments of the calibrator, whose activation must be a known one."""
    activation_of(calibration)
    return {name: value for name, value in calibration.items() if name != "sha256"}


def refuse_code(opened: Opened, preparation: Any, network: Any) -> None:
    """Refuse a configuration that names unknown code or holds an expression that MONAI would evaluate."""
    if preparation != PREPARATION:
        raise BrokenBundle(f"{opened.folder / INFERENCE} names the transform '{preparation}', which is not allowed")
    if network != target_of(opened.network):
        raise BrokenBundle(f"{opened.folder / INFERENCE} names the network '{network}', which is not allowed")
    if _holds_expression([opened.preparation, opened.network, opened.calibrator]):
        raise BrokenBundle(f"{opened.folder / INFERENCE} holds an expression, which is not allowed")


def _holds_expression(values: Any) -> bool:
    if isinstance(values, dict):
        return "_target_" in values or any(map(_holds_expression, values.values()))
    if isinstance(values, list):
        return any(map(_holds_expression, values))
    return isinstance(values, str) and values.startswith(("$", "@", "%"))
