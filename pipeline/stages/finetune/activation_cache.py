"""Where what the frozen stages made of cases is kept: on the disk for the next run, in memory where it fits.

Lives in data/scratch, outside of what DVC tracks, and may be deleted at any time.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline import paths, runtime

Parts = dict[str, Tensor]


class ActivationCache:
    """What frozen stages made of cases, one file each; whoever starts with the same stages finds it there.

    Parameters
    ----------
    folder : Path
        Of all shelves; this one's is named by `key` in it.
    key : str
        Of what made the files.
    limit : float
        Bytes of all shelves together; those that were used longest ago go first.
    """

    def __init__(self, folder: Path, key: str, limit: float) -> None:
        self.folder = folder / key
        self.folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.folder)
        self._trim(folder, limit)

    def __call__(self, name: str, function: Callable[[], Parts]) -> Parts:
        """Give what is kept under a name, or what the function gives, and keep that."""
        file = self.folder / f"{name}.safetensors"
        with contextlib.suppress(FileNotFoundError, SafetensorError):  # the latter after a power cut
            kept: Parts = load_file(file)
            return kept
        found = function()
        with contextlib.suppress(OSError, SafetensorError):  # a full disk, or another fold that took the entry away
            self._keep(found, file)
        return found

    @staticmethod
    def _keep(found: Parts, file: Path) -> None:
        partial_file = file.with_suffix(f".{os.getpid()}.partial")
        try:
            save_file(found, partial_file)
            partial_file.replace(file)
        finally:
            partial_file.unlink(missing_ok=True)

    @staticmethod
    def _trim(folder: Path, limit: float) -> None:
        taken = 0
        for number, entry in enumerate(sorted(folder.iterdir(), key=_last_used, reverse=True)):
            taken += _bytes_on(entry)
            if number and taken > limit:
                shutil.rmtree(entry, ignore_errors=True)


def _last_used(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:  # folds run side by side, and another one has just removed it
        return 0.0


def _bytes_on(entry: Path) -> int:
    """Count what a entry holds; meanwhile other folds may add, rename and remove files."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for file in entry.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += file.stat().st_size
    return total


def allocate(shape: tuple[int, ...]) -> Tensor:
    """Allocate half-precision numbers: in memory, or in a temporary file if they do not fit."""
    if fits_in_memory(2 * int(np.prod(shape))):
        return torch.empty(shape, dtype=torch.float16)
    paths.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=paths.SCRATCH) as file:
        return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))


def fits_in_memory(size: int) -> bool:
    """Tell whether so many bytes may be held at once: MEDADAPT_MEMORY_GIB, 8 if it is not set."""
    return size <= runtime.number("MEDADAPT_MEMORY_GIB", 8) * 2**30
