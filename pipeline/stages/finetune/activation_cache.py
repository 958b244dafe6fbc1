"""Cache the activations of frozen stages: on disk for the next run, in memory where they fit.

The cache is in data/scratch, which DVC does not track, and may be deleted at any time.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from pipeline import paths, runtime
from pipeline.packs import Packs

Parts = dict[str, Tensor]


class ActivationCache:
    """Activations of frozen stages by case, shared by all trainings with the same frozen stages.

    Parameters
    ----------
    folder : Path
        Contains one folder per key, with one file of each training that added cases.
    key : str
        Identifies the stages and the code that computed the files.
    limit : float
        Bytes of all keys together; the least recently used keys are deleted first.
    """

    def __init__(self, folder: Path, key: str, limit: float) -> None:
        own = folder / key
        own.mkdir(parents=True, exist_ok=True)
        os.utime(own)
        self._packs = Packs(own)
        self._trim(folder, limit)

    def __call__(self, name: str, function: Callable[[], Parts]) -> Parts:
        """Return the stored entry of a name; compute and store it with the function if there is none."""
        if (content := self._packs.read(name)) is not None:
            kept: Parts = load(content)
            return kept
        found = function()
        with contextlib.suppress(OSError):  # a full disk, or another fold deleted the folder to make room
            self._packs.write(name, save(found))
        return found

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
    except FileNotFoundError:  # folds run in parallel, and another one has just deleted it
        return 0.0


def _bytes_on(entry: Path) -> int:
    """Sum the file sizes of an entry, while other folds may add, rename and remove files."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for file in entry.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += file.stat().st_size
    return total


def allocate(shape: tuple[int, ...]) -> Tensor:
    """Allocate a float16 tensor in memory, or in a temporary file if it does not fit."""
    if fits_in_memory(2 * int(np.prod(shape))):
        return torch.empty(shape, dtype=torch.float16)
    paths.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=paths.SCRATCH) as file:
        os.posix_fallocate(file.fileno(), 0, max(2 * int(np.prod(shape)), 1))  # a full disk is an error here, no crash
        return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))


def fits_in_memory(size: int) -> bool:
    """Tell whether this many bytes may be held in memory: at most MEDADAPT_MEMORY_GIB, 8 by default."""
    return size <= runtime.number("MEDADAPT_MEMORY_GIB", 8) * 2**30
