"""What a killed run needs to go on as if it had not been: one file, whole or not there."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

PROGRESS = "progress.json"


@dataclass
class Checkpoint:
    """Where one training puts down how far it came.

    Attributes
    ----------
    file : Path
    key : str
        Of all that the training depends on; what another one left is not taken up.
    every : float
        Seconds between two writings at least. What is computed does not depend on it, only what a kill costs.
    """

    file: Path
    key: str
    every: float = 5.0
    written: float = field(default_factory=time.monotonic)

    def offer(self, state: dict[str, Any], epoch: int, last: bool = False) -> None:
        """Write the state of an epoch, and `progress.json` beside it, if it is time or the last one.

        `progress.json` names the training and the epoch, so that they can be read without torch. The trainings of a
        folder share it: it tells of the checkpoint that was written last.
        """
        if last or time.monotonic() - self.written >= self.every:
            save(state | {"key": self.key}, self.file)
            with written_whole(self.progress) as stream:
                stream.write(json.dumps({"training": self.file.stem, "epoch": epoch}).encode())
            self.written = time.monotonic()

    @property
    def progress(self) -> Path:
        """The file that tells how far the latest training of this folder came."""
        return self.file.with_name(PROGRESS)

    def remove(self) -> None:
        """Delete what this training left, which is done."""
        for file in (self.file, self.progress):
            file.unlink(missing_ok=True)

    def state(self) -> dict[str, Any] | None:
        """Read what this training left, if it did."""
        return load(self.file, self.key)

    def of(self, name: str) -> "Checkpoint":
        """Name the checkpoint of a part of the work."""
        return Checkpoint(self.file.with_name(f"{self.file.stem}-{name}{self.file.suffix}"), self.key, self.every)


def save(state: dict[str, Any], file: Path) -> None:
    """Write a state of tensors and plain values, all of it or nothing."""
    with written_whole(file) as stream:
        torch.save(state, stream)


@contextmanager
def written_whole(file: Path) -> Iterator[BinaryIO]:
    """Open a file for writing; after a kill or a power cut it is the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as stream:
        yield stream
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
