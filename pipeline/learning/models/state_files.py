"""Open files of weights: check their hash first, and run no code that they may hold."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

WRAPPERS = ("state_dict", "model", "network_weights")  # under which a training stores its weights beside other things


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


def file_sha256(file: Path) -> str:
    """Hash a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_weights(file: Path, sha256: str | None) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, or from one of torch without running its code.

    Raises
    ------
    BadWeights
        If the file is missing, has another hash, or is not a plain state dict.
    """
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
        state = _unwrapped(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # both readers raise many kinds on a broken or hostile file
        raise BadWeights(
            f"adapt.weights: {file.name} is not a plain state dict: {_reason(error)}; "
            "if it holds a whole network, save its state_dict() with the library that it came from"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadWeights(f"adapt.weights: {file.name} is not a plain state dict of tensors")
    return state


def _reason(error: Exception) -> str:
    """Say in a line why a file was not opened; torch's own advice would run the code in it."""
    code = re.search(r"GLOBAL (\S+)", str(error))
    return f"opening it would run {code[1]}" if code else (str(error).splitlines() or [type(error).__name__])[0]


def _unwrapped(stored: Any) -> Any:
    """Take the weights out of what a training stored with them."""
    inner = [stored[name] for name in WRAPPERS if isinstance(stored, dict) and isinstance(stored.get(name), Mapping)]
    return dict(inner[0]) if inner else stored
