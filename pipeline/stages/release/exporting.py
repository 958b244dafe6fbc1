"""A released network in the formats of other programs: written, held against the network on every case, or left out."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from pipeline import paths, runtime
from pipeline.bundle.scoring import one_thread
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import network_from
from pipeline.metrics.calibrators.calibrator import Calibrator, calibrator_from
from pipeline.paths import Role
from pipeline.stages.release.exports import ALLOWED, BATCHES, FILES, WRITERS, Evaluate, Outcome, largest_differences
from pipeline.stages.release.portable import NotPortable, portable

Config = dict[str, Any]
DEVELOPMENT = (Role.TRAIN, Role.VALIDATION, Role.HELD_OUT)
log = logging.getLogger(__name__)


def development_cases(members: Sequence[str]) -> list[str]:
    """Name the cases that the members of a release were trained, stopped or evaluated on, fold by fold."""
    tables = [paths.read_table(paths.split(name)) for name in members]
    return sorted({case for table in tables for case in table.loc[table["role"].isin(DEVELOPMENT), "case"]})


def channels_of(cases: Iterable[str]) -> Iterator[Tensor]:
    """Read cases as the network takes them, (P, H, W) float32."""
    for case in cases:
        yield torch.from_numpy(np.load(paths.prepared_case(case))).float()


def export(
    kinds: Sequence[str], network: Config, weights: Path, calibrator: Config, facts: Config, cases: Sequence[str]
) -> dict[str, Config]:
    """Write a network beside its weights in each format of `kinds`; none that does not equal it is left there.

    Parameters
    ----------
    kinds : sequence of {"torchscript", "onnx"}
    network, weights, calibrator
        As in `pipeline.bundle.layout.Opened`.
    facts : dict
        Plain values to be written into formats that have a place for them.
    cases : sequence of str
        On which every export must equal the network.

    Returns
    -------
    dict
        By kind: its `file`, the number of `cases`, the `batches`, and the `largest_difference` of `probability` and
        `logit` with what is `allowed`; or `not_shipped` and why.
    """
    if not kinds:
        return {}
    loaded = network_from(network)
    loaded.load_state_dict(load_file(weights))
    bundle = weights.parent.parent
    try:
        settled = inference(portable(loaded))
    except NotPortable as error:
        return {kind: {"not_shipped": str(error)} for kind in kinds}
    with one_thread():
        [first] = channels_of(cases[:1])
        evaluates = {kind: _written(kind, settled, calibrator, first[None], bundle, facts) for kind in kinds}
        shipped = {kind: evaluate for kind, evaluate in evaluates.items() if callable(evaluate)}
        reference = evaluate_by(settled, calibrator_from(calibrator))
        channels = channels_of(runtime.progress(list(cases), "parity of exports"))
        count, worst = largest_differences(reference, shipped, channels) if shipped else (0, {})
    names = encoders_of(network)
    return {
        kind: _told(bundle / FILES[kind], count, worst[kind])
        if kind in worst
        else {"not_shipped": f"{evaluate}: {names}"}
        for kind, evaluate in evaluates.items()
    }


def evaluate_by(network: torch.nn.Module, calibrator: Calibrator) -> Evaluate:
    """Evaluate as `predict` does: by the network itself, and by the map in numpy."""

    @torch.inference_mode()
    def evaluate(channels: Tensor) -> Outcome:
        logits = network(channels).double().numpy()
        return calibrator.apply(logits), logits

    return evaluate


def known_sites(network: Config) -> list[str]:
    """Name the sites that have values of their own in a network or in a member of it."""
    return sorted({site for one in network.get("members", [network]) for site in one.get("sites", [])})


def encoders_of(network: Config) -> str:
    """Name the encoders of a network or of its members."""
    return ", ".join(sorted({str(one["encoder"]) for one in network.get("members", [network])}))


def _written(kind: str, network: torch.nn.Module, calibrator: Config, case: Tensor, bundle: Path, facts: Config) -> Any:
    """Write one export and give its evaluate, or a sentence that says why there is none."""
    file = bundle / FILES[kind]
    try:
        return WRITERS[kind](network, calibrator, case, file, facts)
    except Exception as error:  # exporters raise whatever their inside raises; a release is not lost over that
        file.unlink(missing_ok=True)
        log.warning("%s: not written: %s", file.name, error)
        return f"torch cannot write this network so ({type(error).__name__})"  # messages name files of this machine


def _told(file: Path, count: int, worst: NDArray[np.float64]) -> Config:
    """Say how equal an export is; remove one that is not."""
    found, allowed = (dict(zip(("probability", "logit"), pair.tolist(), strict=True)) for pair in (worst, ALLOWED))
    if not (worst <= ALLOWED).all():
        file.unlink()
        told = ", ".join(f"{what} by {found[what]:.3g} (allowed is {allowed[what]:g})" for what in found)
        return {"not_shipped": f"it differs from the network in {told}"}
    known = {"file": str(file.relative_to(file.parent.parent)), "cases": count, "batches": list(BATCHES)}
    return known | {"largest_difference": found, "allowed": allowed}
