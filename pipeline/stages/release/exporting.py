"""Export a released network to the formats of other programs, and compare each export with it."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from pipeline import paths, prepared
from pipeline.bundle.layout import classifiers_of
from pipeline.bundle.scoring import one_thread
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import network_from
from pipeline.metrics.calibrators.calibrator import Calibrator, calibrator_from
from pipeline.paths import Role
from pipeline.progress import progress
from pipeline.stages.release.exports import (
    ALLOWED,
    FILES,
    IN_BATCHES,
    WRITERS,
    Exportable,
    Outcome,
    Predict,
    largest_differences,
)
from pipeline.stages.release.portable import NotPortable, portable

Config = dict[str, Any]
DEVELOPMENT = (Role.TRAIN, Role.VALIDATION, Role.HELD_OUT)
log = logging.getLogger(__name__)


def development_cases(members: Sequence[str]) -> list[str]:
    """Name the cases on which the members of a release were trained, stopped or evaluated."""
    tables = [paths.read_table(paths.split(name)) for name in members]
    return sorted({case for table in tables for case in table.loc[table["role"].isin(DEVELOPMENT), "case"]})


def compared_cases(members: Sequence[str], count: int | None, seed: int) -> list[str]:
    """Draw `count` development cases for comparisons of the bundle with what was evaluated; all of them for None."""
    cases = development_cases(members)
    if count is None or count >= len(cases):
        return cases
    return sorted(np.random.default_rng(seed).choice(cases, count, replace=False).tolist())


def channels_of(cases: Iterable[str]) -> Iterator[Tensor]:
    """Read the channels of cases, (P, H, W) float32."""
    for case in cases:
        yield torch.from_numpy(np.array(prepared.read_channels(case))).float()


def export(
    kinds: Sequence[str], *, network: Config, weights: Path, calibrator: Config, facts: Config, cases: Sequence[str]
) -> dict[str, Config]:
    """Export a network beside its weights in each format of `kinds`; remove an export that is not equal to it.

    Parameters
    ----------
    kinds : sequence of {"torchscript", "onnx"}
    network, weights, calibrator
        As in `pipeline.bundle.opening.Opened`.
    facts : dict
        Plain values to be written into formats that have a place for them.
    cases : sequence of str
        On all of which an export must be equal to the network.

    Returns
    -------
    dict
        By kind: its `file`, the number of `cases` and how many of them `in_batches` as well, and the
        `largest_difference` of `probability` and `logit` with what is `allowed`; or the reason why it is `not_shipped`.
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
        example = Exportable(settled, calibrator, first[None], facts)
        predictors = {kind: _written(kind, example, bundle) for kind in kinds}
        shipped = {kind: predict for kind, predict in predictors.items() if callable(predict)}
        reference = predict_by(settled, calibrator_from(calibrator))
        channels = channels_of(progress(list(cases), "cases compared"))
        count, worst = largest_differences(reference, shipped, channels) if shipped else (0, {})
    names = encoders_of(network)
    return {
        kind: _parity(bundle / FILES[kind], count, worst[kind])
        if kind in worst
        else {"not_shipped": f"{predict}: {names}"}
        for kind, predict in predictors.items()
    }


def predict_by(network: torch.nn.Module, calibrator: Calibrator) -> Predict:
    """Predict as the command `predict` does: with the network itself, and the calibrator in numpy."""

    @torch.inference_mode()
    def predict(channels: Tensor) -> Outcome:
        logits = network(channels).double().numpy()
        return calibrator.apply(logits), logits

    return predict


def encoders_of(network: Config) -> str:
    """Name the encoders of a network or of its members."""
    return ", ".join(sorted({str(one["encoder"]["name"]) for one in classifiers_of(network)}))


def _written(kind: str, source: Exportable, bundle: Path) -> Any:
    """Write one export and return the function that runs it, or a sentence that says why there is none."""
    file = bundle / FILES[kind]
    try:
        return WRITERS[kind](source, file)
    except Exception as error:  # exporters raise exceptions of many kinds, and none of them should stop a release
        file.unlink(missing_ok=True)
        log.warning("%s: not written: %s", file.name, error)
        return f"torch cannot export this network ({type(error).__name__})"  # messages name files of this machine


def _parity(file: Path, count: int, worst: NDArray[np.float64]) -> Config:
    """Describe how close an export is to the network; remove one that is not equal."""
    found, allowed = (dict(zip(("probability", "logit"), pair.tolist(), strict=True)) for pair in (worst, ALLOWED))
    if not (worst <= ALLOWED).all():
        file.unlink()
        differences = ", ".join(f"{what} by {found[what]:.3g} (allowed is {allowed[what]:g})" for what in found)
        return {"not_shipped": f"it differs from the network in {differences}"}
    known = {"file": str(file.relative_to(file.parent.parent)), "cases": count, "in_batches": min(count, IN_BATCHES)}
    return known | {"largest_difference": found, "allowed": allowed}
