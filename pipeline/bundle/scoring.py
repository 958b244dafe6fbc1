"""A released network on a file: from the scan to logits, as the stage that packs it and whoever receives it run it."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.bundle.transforms import PrepareScand
from pipeline.imaging.preparation.placement import Prepared
from pipeline.imaging.reading.scan import Unreadable
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import mean_of, members_of, network_from

Config = dict[str, Any]
Logits = NDArray[np.float64]
CPUINFO = Path("/proc/cpuinfo")


class BadModel(ValueError):
    """A network or weights that cannot be used; the message names the file."""


@dataclass(frozen=True)
class Look:
    """What a network made of a scan.

    Attributes
    ----------
    logits : (K,)
    features : list of (p,)
        What the head of each member saw.
    prepared : Prepared
        The channels that they saw, and where these lie in the scan.
    """

    logits: Logits
    features: list[Logits]
    prepared: Prepared


def looks_by(network: Mapping[str, Any], weights: Path, preparation: Config) -> Callable[[Path, str | None], Look]:
    """Load a network once and return the function from a scan's file, and its site, to what the network makes of it.

    Parameters
    ----------
    network, preparation : mapping
        As `pipeline.bundle.layout.Opened` holds them; whatever is not checked must not come here.
    weights : Path
        A safetensors file.

    Raises
    ------
    BadModel
        If the weights are no safetensors, or are not those of the network.
    Unreadable
        From a call, if the scan is refused.
    """
    try:
        loaded = network_from(network)
        loaded.load_state_dict(load_file(weights))
        steps = PrepareScand(**preparation).steps
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
        raise BadModel(f"{weights} and the network of its bundle do not go together: {error}") from error
    inference(loaded)

    @torch.inference_mode()
    def look(file: Path, site: str | None) -> Look:
        loaded.at(site)
        prepared = steps.prepare_file(file)
        found = [member.look(torch.from_numpy(prepared.channels)[None]) for member in members_of(loaded)]
        logits = mean_of([one.logits for one in found])
        return Look(logits.double().numpy()[0], [one.features.double().numpy()[0] for one in found], prepared)

    return look


def logits_by(
    network: Mapping[str, Any], weights: Path, preparation: Config, site: str | None = None
) -> Callable[[Path], Logits]:
    """Return the function from a scan's file to its logits (K,); as `looks_by`, for scans of one site."""
    look = looks_by(network, weights, preparation)
    return lambda file: look(file, site).logits


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
