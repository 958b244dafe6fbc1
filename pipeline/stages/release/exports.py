"""The released network for programs without medadapt: TorchScript and ONNX, each held against the network itself."""

import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.stages.release.calibrated import Calibrated, CalibrationMap

FILES = {"torchscript": Path("models/model.ts"), "onnx": Path("models/model.onnx")}
ALLOWED = np.array([1e-5, 1e-4])  # of a probability; of a logit, or of the logit's size where that is above 1
BATCHES = (1, 5)

Config = dict[str, Any]
Outcome = tuple[NDArray[Any], NDArray[Any]]  # probabilities and logits of a batch, (B, K) each
Evaluate = Callable[[Tensor], Outcome]


class CaseByCase(nn.Module):
    """What MONAI calls model.ts: logits, to which the bundle's postprocessing belongs; or `probabilities`, with it."""

    def __init__(self, network: nn.Module, calibration: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calibration = calibration

    def forward(self, channels: Tensor) -> Tensor:
        """Turn channels (B, P, H, W) into logits (B, K), one case after the other, so that none sees its neighbours."""
        return torch.cat([self.network(one) for one in channels.split(1)])

    @torch.jit.export
    def probabilities(self, channels: Tensor) -> Tensor:
        """Turn channels (B, P, H, W) into calibrated probabilities (B, K)."""
        found: Tensor = self.calibration(self.forward(channels))
        return found


def write_torchscript(
    network: nn.Module, calibrator: Mapping[str, Any], case: Tensor, file: Path, _: Config
) -> Evaluate:
    """Write a network as TorchScript and open it again; arguments as for `write_onnx`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript old; MONAI's clients still ask for it
        flat = torch.export.export(network, (case,)).module()
        traced = torch.jit.trace(flat, case, check_trace=False)
        logits = network(case)
        calibration = torch.jit.trace(CalibrationMap(calibrator), logits, check_trace=False)
        torch.jit.script(CaseByCase(traced, calibration)).save(str(file))
        _forget_sources_of_script(file)
        loaded: Any = torch.jit.load(file)

    @torch.inference_mode()
    def evaluate(channels: Tensor) -> Outcome:
        return loaded.probabilities(channels).numpy(), loaded(channels).numpy()

    return evaluate


def write_onnx(network: nn.Module, calibrator: Mapping[str, Any], case: Tensor, file: Path, facts: Config) -> Evaluate:
    """Write a network with its calibrator as ONNX, for batches of any size, and open it again.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, from channels to logits.
    calibrator : mapping
        Plain values of the map.
    case : (1, P, H, W) float32 Tensor
        As the network takes it.
    file : Path
    facts : dict
        Plain values to be written into the file, where `InferenceSession.get_modelmeta()` finds them.

    Returns
    -------
    callable
        The written file as onnxruntime runs it.
    """
    import onnx

    for talkative in ("onnx_ir", "onnxscript"):  # they tell of every rule that they apply
        logging.getLogger(talkative).setLevel(logging.WARNING)
    two, batch = torch.cat([case, case]), torch.export.Dim("batch")
    names: Any = {"input_names": ["image"], "output_names": ["pred", "logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch does inside
        whole = Calibrated(network, calibrator)
        # Not strict, torch.export takes the length of a batch for a number that never changes.
        program = torch.export.export(whole, (two,), dynamic_shapes=({0: batch},), strict=True)
        exported: Any = torch.onnx.export(program, (two,), dynamo=True, verbose=False, **names)
    model = exported.model_proto
    _forget_sources_of_graph(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.metadata_props.extend(
        onnx.StringStringEntryProto(key=key, value=json.dumps(value)) for key, value in sorted(facts.items())
    )
    onnx.save(model, file)
    return open_onnx(file)


def open_onnx(file: Path) -> Evaluate:
    """Open an ONNX file on the processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def evaluate(channels: Tensor) -> Outcome:
        probabilities, logits = session.run(["pred", "logits"], {"image": channels.numpy()})
        return probabilities, logits

    return evaluate


def _forget_sources_of_script(file: Path) -> None:
    """Leave out where on this machine each line of code stood, and the number that every writing has of its own."""
    notes = (".debug_pkl", ".data/serialization_id")
    with zipfile.ZipFile(file) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if not name.endswith(notes)}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in kept.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _forget_sources_of_graph(model: Any) -> None:
    """Take from every part of an ONNX model the notes of where it came from, which name files of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    if model.functions:
        raise ValueError("the model has functions of its own, whose notes would stay")


WRITERS = {"torchscript": write_torchscript, "onnx": write_onnx}


def largest_differences(
    network: Evaluate, exports: Mapping[str, Evaluate], cases: Iterable[Tensor]
) -> tuple[int, dict[str, NDArray[np.float64]]]:
    """Hold exports against the network on every case, alone and in batches of five.

    Parameters
    ----------
    network : callable
        Evaluates a batch of one.
    exports : mapping
        Name to what evaluates a batch of any size.
    cases : iterable of (P, H, W) float32 Tensor

    Returns
    -------
    int
        How many cases there were.
    dict
        By name, the largest difference of a probability and of a logit as `ALLOWED` counts it; NaN if something was
        not a number.
    """
    count, worst = 0, dict.fromkeys(exports, np.zeros(2))
    for channels in _batches(cases, max(BATCHES)):
        count += len(channels)
        expected = _joined(map(network, channels.split(1)))
        for name, evaluate in exports.items():
            found = [_joined(map(evaluate, channels.split(size))) for size in BATCHES]
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
    probabilities, logits = (np.abs(a - b) for a, b in zip(expected, found, strict=True))
    return np.array([probabilities.max(), (logits / np.maximum(1, np.abs(expected[1]))).max()])
