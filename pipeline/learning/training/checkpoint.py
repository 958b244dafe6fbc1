"""Save and load the state of a training, so that a killed run continues with the same bits."""

import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

log = logging.getLogger(__name__)

PROGRESS = "progress.json"
DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass
class Checkpoint:
    """The checkpoint file of one training.

    Attributes
    ----------
    file : Path
    key : str
        Identifies everything that the training depends on; a file with another key is ignored.
    every : float
        Minimum number of seconds between two writes. Results do not depend on it.
    """

    file: Path
    key: str
    every: float = 5.0
    written: float = field(default_factory=time.monotonic)

    def offer(self, state: dict[str, Any], epoch: int, last: bool = False) -> None:
        """Write the state of an epoch and `progress.json` if `every` seconds have passed or the epoch is the last.

        `progress.json` names the training and the epoch, so that they can be read without torch. The trainings of a
        folder share it; it describes the checkpoint that was written last.
        """
        if last or time.monotonic() - self.written >= self.every:
            save(state | {"key": self.key}, self.file)
            with written_whole(self.progress) as stream:
                stream.write(json.dumps({"training": self.file.stem, "epoch": epoch}).encode())
            self.written = time.monotonic()

    @property
    def progress(self) -> Path:
        """The file with the progress of the latest training in this folder."""
        return self.file.with_name(PROGRESS)

    def remove(self) -> None:
        """Delete the files of this training, which has ended."""
        for file in (self.file, self.progress):
            file.unlink(missing_ok=True)

    def state(self) -> dict[str, Any] | None:
        """Read the state of this training; None if there is none."""
        return load(self.file, self.key)

    def of(self, name: str) -> "Checkpoint":
        """Return the checkpoint of a part of the training."""
        return Checkpoint(self.file.with_name(f"{self.file.stem}-{name}{self.file.suffix}"), self.key, self.every)


def save(state: dict[str, Any], file: Path) -> None:
    """Write a state of tensors and plain values atomically."""
    with written_whole(file) as stream:
        hashed = _Hashed(stream)
        torch.save(state, cast(BinaryIO, hashed))
        stream.write(hashed.digest.digest())


class _Hashed:
    """A stream that hashes what is written to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest = stream, hashlib.sha256()

    def write(self, content: bytes) -> int:
        """Write and hash."""
        self.digest.update(content)
        return self.stream.write(content)

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


@contextmanager
def written_whole(file: Path) -> Iterator[BinaryIO]:
    """Open a file for atomic writing: after a kill or a power cut the file is either the old or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # writes the new name to disk as well
    finally:
        os.close(folder)


def load(file: Path, key: str) -> dict[str, Any] | None:
    """Read a state; None if there is no file, its key differs, or its hash, with which it ends, does not match."""
    if not file.exists():
        return None
    content = memoryview(file.read_bytes())
    content, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        log.warning("%s is damaged, so this training starts again", file)
        file.unlink()
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state if state["key"] == key else None


def fingerprint(text: str, tensors: Iterable[Tensor]) -> str:
    """Hash the settings (as text) and tensors that a run starts from."""
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
