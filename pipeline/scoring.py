"""A released network on a file: from the scan to logits, as the stage that packs it and whoever receives it run it."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.transforms import PrepareScand
from pipeline.learning.encoder import inference
from pipeline.learning.ensemble import network_from

Config = dict[str, Any]
Logits = NDArray[np.float64]
CPUINFO = Path("/proc/cpuinfo")


def logits_by(
    network: Mapping[str, Any], weights: Path, preparation: Config, site: str | None = None
) -> Callable[[Path], Logits]:
    """Load a network once and return the function from a scan's file to its logits (K,).

    Parameters
    ----------
    network, preparation : mapping
        As `pipeline.releasing.bundle.Opened` holds them; whatever is not checked must not come here.
    weights : Path
        A safetensors file.
    site : str, optional
        Of a network that has values of its own for each site.

    Raises
    ------
    Unreadable
        From a call, if the scan is refused.
    """
    loaded = network_from(network)
    loaded.load_state_dict(load_file(weights))
    loaded.at(site)
    inference(loaded)
    steps = PrepareScand(**preparation).steps

    @torch.inference_mode()
    def logits(file: Path) -> Logits:
        planes = torch.from_numpy(steps.prepare_file(file).planes)[None]
        found: Logits = loaded(planes).double().numpy()[0]
        return found

    return logits


def outcomes(logits: Callable[[Path], Logits], files: Sequence[Path]) -> dict[str, Config]:
    """Score files in one thread, so that the number of cores does not show: `logits` or `refused` (why) by name."""
    with one_thread():
        return {file.name: _outcome(logits, file) for file in files}


def _outcome(logits: Callable[[Path], Logits], file: Path) -> Config:
    try:
        return {"logits": logits(file).tolist()}
    except Unreadable as error:
        return {"refused": error.finding.check}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def processor() -> dict[str, str]:
    """Name what decides the last bits of a sum: the kind of processor, what torch uses of it, and torch itself."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "machine": platform.machine(),
        "processor": models[0] if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
