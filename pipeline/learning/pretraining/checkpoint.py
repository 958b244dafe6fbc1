"""What a killed run needs to go on as if it had not been: one file, whole or not there."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save(state: dict[str, Any], file: Path) -> None:
    """Write a state of tensors and plain values; after a power cut the file is the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is on the disk, too
    finally:
        os.close(folder)


def load(file: Path, key: str) -> dict[str, Any] | None:
    """Read the state of the run whose key this is; None where there is none, or it is another run's."""
    if not file.exists():
        return None
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state if state["key"] == key else None


def fingerprint(text: str, tensors: Iterable[Tensor]) -> str:
    """Hash what a run starts from, so that a run of other settings or images is never taken for it."""
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
