"""Start from the weights of an earlier release, checked against its manifest."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipeline.learning.models.state_files import BadWeights, Provenance, file_sha256, open_weights

MANIFEST = "MANIFEST.json"
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
RELEASED = "models/model.safetensors"


def from_release(encoder: str, folder: Path, sha256: str | None) -> tuple[Mapping[str, Tensor], Provenance]:
    """Open the weights of an earlier release of this project.

    Raises
    ------
    BadWeights
        If the release is not whole, has changed, is of another encoder or is not the one with that hash.
    """
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
    return _last_member(open_weights(folder / RELEASED, sha256)), provenance


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
