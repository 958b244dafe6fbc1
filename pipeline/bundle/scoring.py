"""Run a released network on a scan: from the file to logits, in `release` as wherever the bundle is used."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.bundle.limits import ScanOutput
from pipeline.bundle.transforms import PrepareScand
from pipeline.imaging.appearance import appearance
from pipeline.imaging.preparation.region import MaskFile
from pipeline.imaging.reading.scan import Unreadable
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import mean_of, members_of, network_from

Config = dict[str, Any]
ScoreScan = Callable[..., ScanOutput]  # from a scan's file, its site, and its mask if the network sees masks
CPUINFO = Path("/proc/cpuinfo")


class BadModel(ValueError):
    """A network or weights that cannot be used; the message names the file."""


class Scorer:
    """Load a network once and run it on scans.

    Parameters
    ----------
    network, preparation : mapping
        As `pipeline.bundle.opening.Opened` holds them. They must have been checked: both are turned into code.
    weights : Path
        A safetensors file.

    Raises
    ------
    BadModel
        If the weights are no safetensors, or do not fit the network.
    """

    def __init__(self, network: Mapping[str, Any], weights: Path, preparation: Config) -> None:
        try:
            self.network = network_from(network)
            state = load_file(weights)
            self.network.load_state_dict(state)
            if broken := next((name for name, value in state.items() if value.isnan().any()), None):
                raise ValueError(f"{broken} holds NaN")
            self.steps = PrepareScand(**preparation).steps
        except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise BadModel(f"{weights} does not fit the network of its bundle: {error}") from error
        inference(self.network)

    @torch.inference_mode()
    def __call__(self, file: Path, site: str | None = None, mask: MaskFile = None) -> ScanOutput:
        """Read, prepare and score a scan; a site that the network does not know is treated as a new one.

        `mask` is its mask, or "whole", if the network sees masks.

        Raises
        ------
        Unreadable
            If the scan or its mask is refused.
        """
        prepared = self.steps.prepare_file(file, mask)
        outputs = [
            member.outputs(torch.from_numpy(prepared.channels)[None], site) for member in members_of(self.network)
        ]
        return ScanOutput(
            logits=mean_of([one.logits for one in outputs]).double().numpy()[0],
            features=[one.features.double().numpy()[0] for one in outputs],
            appearance=appearance(prepared.channels),
            prepared=prepared,
        )


def outcomes(score: ScoreScan, files: Sequence[Path], mask: MaskFile = None) -> dict[str, Config]:
    """Score files in one thread, so that results do not depend on the number of cores; `mask` is that of all of them.

    Returns
    -------
    dict
        By the name of the file: `logits`, or `refused` with the name of the failed check.
    """
    with one_thread():
        return {file.name: _outcome(score, file, mask) for file in files}


def _outcome(score: ScoreScan, file: Path, mask: MaskFile) -> Config:
    try:
        return {"logits": score(file, None, *([mask] if mask else [])).logits.tolist()}
    except Unreadable as error:
        return {"refused": error.finding.check}


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread within the context."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def processor() -> dict[str, str]:
    """Name what determines the last bits of a sum: the processor, the instructions that torch uses, and torch."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "machine": platform.machine(),
        "processor": models[0] if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
