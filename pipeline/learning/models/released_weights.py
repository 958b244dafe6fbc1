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
        provenance, number = _read_release(folder)
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
    return _of_member(open_weights(folder / RELEASED, sha256), number), provenance


def _of_member(state: dict[str, Tensor], number: int | None) -> dict[str, Tensor]:
    """Take the weights of a member of a portfolio, or all if there is no number."""
    prefix = "" if number is None else f"members.{number}."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _read_release(folder: Path) -> tuple[Provenance, int | None]:
    """Read the provenance of a release, which includes that of the weights that it started from.

    Returns
    -------
    provenance : Provenance
    number : int or None
        Of the member of a portfolio that was trained most: the last one that is not the second encoder.
    """
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
    start = metadata.get("provenance") or {}
    number = len(network["portfolio"]) - (2 if "second" in start else 1) if "portfolio" in network else None
    held = (network if number is None else network["portfolio"][number])["encoder"]
    if isinstance(held, str):
        raise BadWeights(
            f"adapt.weights: {folder} was released by an earlier version of medadapt; "
            "release the model again with this version"
        )
    encoder = str(held["name"])
    release = f"release {metadata['name']} {metadata['version']}"
    licence = f"{start.get('licence', 'unknown: see its docs/README.md')}; the release's own: see its LICENSE"
    before = f"{start['pretraining']} ({start['source']})" if start else "unknown: see its docs/README.md"
    pretraining = f"{before}; then {release}: {metadata['task']}"
    sha256 = str(hashes[RELEASED])
    return Provenance(encoder, source=release, licence=licence, sha256=sha256, pretraining=pretraining), number
