"""Export the released network as TorchScript and ONNX, and compare each export with the network itself."""

import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.stages.release.calibrated import Calibrated, TorchCalibrator

FILES = {"torchscript": Path("models/model.ts"), "onnx": Path("models/model.onnx")}
ALLOWED = np.array([1e-5, 1e-4])  # of a probability; of a logit, or of the logit's size where that is above 1
BATCH, IN_BATCHES = 5, 20  # cases of a batch, and how many cases are compared in batches as well

Config = dict[str, Any]
Outcome = tuple[NDArray[Any], NDArray[Any]]  # probabilities and logits of a batch, (B, K) each
Predict = Callable[[Tensor], Outcome]


@dataclass(frozen=True)
class Exportable:
    """What is exported.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode, from channels to logits.
    calibrator : mapping
        Plain values, as `calibrator_from` takes them.
    case : (1, P, H, W) float32 Tensor
        An example of the input.
    facts : dict
        Plain values to be written into formats that have a place for them.
    """

    network: nn.Module
    calibrator: Mapping[str, Any]
    case: Tensor
    facts: Config = field(default_factory=dict)


class CaseByCase(nn.Module):
    """The model.ts of MONAI: calling it gives logits; its method `probabilities` applies the calibrator, too."""

    def __init__(self, network: nn.Module, calibration: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calibration = calibration

    def forward(self, channels: Tensor) -> Tensor:
        """Turn channels (B, P, H, W) into logits (B, K), one case at a time, so that cases do not affect each other."""
        return torch.cat([self.network(one) for one in channels.split(1)])

    @torch.jit.export
    def probabilities(self, channels: Tensor) -> Tensor:
        """Turn channels (B, P, H, W) into calibrated probabilities (B, K)."""
        found: Tensor = self.calibration(self.forward(channels))
        return found


def write_torchscript(source: Exportable, file: Path) -> Predict:
    """Export a network as TorchScript, and return the function that runs the written file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript, but MONAI's clients still ask for it
        flat = torch.export.export(source.network, (source.case,)).module()
        traced = torch.jit.trace(flat, source.case, check_trace=False)
        logits = source.network(source.case)
        calibration = torch.jit.trace(TorchCalibrator(source.calibrator), logits, check_trace=False)
        torch.jit.script(CaseByCase(traced, calibration)).save(str(file))
        _forget_sources_of_script(file)
        loaded: Any = torch.jit.load(file)

    @torch.inference_mode()
    def predict(channels: Tensor) -> Outcome:
        logits = loaded(channels)  # `probabilities` would run the network again
        return loaded.calibration(logits).numpy(), logits.numpy()

    return predict


def write_onnx(source: Exportable, file: Path) -> Predict:
    """Export a network with its calibrator as ONNX for batches of any size, and return the function that runs it.

    `InferenceSession.get_modelmeta()` of onnxruntime gives the facts.
    """
    import onnx

    for name in ("onnx_ir", "onnxscript"):  # they log every rewriting rule that they apply
        logging.getLogger(name).setLevel(logging.WARNING)
    two, batch = torch.cat([source.case, source.case]), torch.export.Dim("batch")
    names: Any = {"input_names": ["image"], "output_names": ["pred", "logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about internals of torch
        whole = Calibrated(source.network, source.calibrator)
        # A network takes the length of a batch by `shape[0]`: that of `len()` would be a constant here.
        program = torch.export.export(whole, (two,), dynamic_shapes=({0: batch},))
        exported: Any = torch.onnx.export(program, (two,), dynamo=True, verbose=False, **names)
    model = exported.model_proto
    _forget_sources_of_graph(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.metadata_props.extend(
        onnx.StringStringEntryProto(key=key, value=json.dumps(value)) for key, value in sorted(source.facts.items())
    )
    onnx.save(model, file)
    return open_onnx(file)


def open_onnx(file: Path) -> Predict:
    """Open an ONNX file with onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def predict(channels: Tensor) -> Outcome:
        probabilities, logits = session.run(["pred", "logits"], {"image": channels.numpy()})
        return probabilities, logits

    return predict


def _forget_sources_of_script(file: Path) -> None:
    """Remove paths of this machine's source files, and the serial number that differs in every file."""
    notes = (".debug_pkl", ".data/serialization_id")
    with zipfile.ZipFile(file) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if not name.endswith(notes)}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in kept.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _forget_sources_of_graph(model: Any) -> None:
    """Remove the notes of an ONNX model about its source code, which name files of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    if model.functions:
        raise ValueError("the model has functions of its own, whose notes would not be removed")


WRITERS = {"torchscript": write_torchscript, "onnx": write_onnx}


def largest_differences(
    network: Predict, exports: Mapping[str, Predict], cases: Iterable[Tensor]
) -> tuple[int, dict[str, NDArray[np.float64]]]:
    """Compare exports with the network on every case alone, and on the first `IN_BATCHES` in batches of five as well.

    Parameters
    ----------
    network : callable
        Predicts a batch of one.
    exports : mapping
        By name, a function that predicts a batch of any size.
    cases : iterable of (P, H, W) float32 Tensor

    Returns
    -------
    int
        How many cases there were.
    dict
        By name, the largest difference of a probability and of a logit in the units of `ALLOWED`; NaN if something was
        not a number.
    """
    count, worst = 0, dict.fromkeys(exports, np.zeros(2))
    for channels in _batches(cases, BATCH):
        sizes = (1, BATCH) if count < IN_BATCHES else (1,)
        count += len(channels)
        expected = _joined(map(network, channels.split(1)))
        for name, predict in exports.items():
            found = [_joined(map(predict, channels.split(size))) for size in sizes]
            worst[name] = np.max([worst[name], *(_differences(expected, one) for one in found)], axis=0)
    return count, worst


def _batches(cases: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    left = iter(cases)
    while some := list(islice(left, size)):
        yield torch.stack(some)


def _joined(outcomes: Iterable[Outcome]) -> Outcome:
    probabilities, logits = zip(*outcomes, strict=True)
    return np.concatenate(probabilities), np.concatenate(logits)


def _differences(expected: Outcome, found: Outcome) -> NDArray[np.float64]:
    apart = [np.abs(a - b) / np.maximum(1, np.abs(a)) for a, b in zip(expected, found, strict=True)]
    return np.array([one.max() for one in apart])
