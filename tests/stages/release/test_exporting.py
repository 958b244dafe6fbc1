"""What becomes of a release's exports: shipped only where they equal the network, and else the reason is told."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.bundle.layout import WEIGHTS
from pipeline.learning.models.ensemble import network_from
from pipeline.stages.release import exporting
from pipeline.stages.release.exports import ALLOWED, FILES
from tests.bundle.bundles import ARGUMENTS, CALIBRATOR
from tests.conftest import TINY_ENCODER
from tests.stages.stored import store_channels

KINDS = ("torchscript", "onnx")
CASES = [f"case-{number}" for number in range(6)]


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Export an untrained network of some arguments on six prepared cases."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for case in CASES:
        store_channels(case, rng.integers(0, 256, (12, 32, 32), dtype=np.uint8))

    def run(arguments=ARGUMENTS, kinds=KINDS):
        (tmp_path / "bundle" / "models").mkdir(parents=True, exist_ok=True)
        weights = tmp_path / "bundle" / WEIGHTS
        save_file({name: value.contiguous() for name, value in network_from(arguments).state_dict().items()}, weights)
        told = exporting.export(
            kinds, network=arguments, weights=weights, calibrator=CALIBRATOR, facts={"name": "model"}, cases=CASES
        )
        return told, {kind for kind, file in FILES.items() if (tmp_path / "bundle" / file).exists()}

    return run


@pytest.mark.parametrize(("count", "expected"), [(None, 30), (100, 30), (12, 12)])
def test_a_sample_of_development_cases_is_compared_or_all(monkeypatch, count, expected):
    every = [f"case-{number:02}" for number in range(30)]
    monkeypatch.setattr(exporting, "development_cases", lambda members: every)
    drawn = exporting.compared_cases(["final"], count, seed=1)
    assert drawn == exporting.compared_cases(["final"], count, seed=1) == sorted(set(drawn))
    assert len(drawn) == expected and set(drawn) <= set(every)
    assert expected == 30 or drawn != exporting.compared_cases(["final"], count, seed=2)


def written_off_by(amount):
    """A writer whose export is wrong by so much of a probability in the last case alone."""

    def write(source, file):
        file.write_text("an export")
        right = exporting.predict_by(source.network, exporting.calibrator_from(source.calibrator))
        last = next(exporting.channels_of(CASES[-1:]))

        def predict(channels):
            probabilities, logits = right(channels)
            return probabilities + amount * (channels == last).flatten(1).all(dim=1).numpy()[:, None], logits

        return predict

    return write


def test_exports_equal_to_the_network_are_shipped_with_the_differences(export):
    told, there = export()
    assert there == set(KINDS) == set(told)
    for kind in KINDS:
        assert told[kind]["file"] == str(FILES[kind]) and told[kind]["cases"] == 6 and told[kind]["in_batches"] == 6
        assert 0 <= told[kind]["largest_difference"]["probability"] <= 1e-5 == told[kind]["allowed"]["probability"]


def test_an_export_that_differs_in_one_case_is_not_shipped(export, monkeypatch):
    monkeypatch.setitem(exporting.WRITERS, "onnx", written_off_by(1.2e-5))
    monkeypatch.setitem(exporting.WRITERS, "torchscript", written_off_by(0.8e-5))
    told, there = export()
    assert there == {"torchscript"}
    assert "differs from the network in probability by 1.2e-05 (allowed is 1e-05)" in told["onnx"]["not_shipped"]
    monkeypatch.setitem(exporting.WRITERS, "torchscript", written_off_by(np.nan))
    assert export()[1] == set() and ALLOWED[0] == 1e-5


def test_an_encoder_that_cannot_be_exported_is_named_without_a_path(export, monkeypatch):
    class Stubborn(torch.nn.Module):
        def forward(self, maps):
            return maps if maps.sum().item() > 0 else -maps

    plain = exporting.portable

    def stubborn(network):
        network.encoder.stages.insert(0, Stubborn())
        return plain(network)

    monkeypatch.setattr(exporting, "portable", stubborn)
    told, there = export(kinds=["onnx"])
    assert there == set() and set(told["onnx"]) == {"not_shipped"}
    assert told["onnx"]["not_shipped"].endswith(f": {TINY_ENCODER}") and "/" not in told["onnx"]["not_shipped"]


def test_a_network_that_learns_from_every_case_has_no_exports_and_says_why(export):
    told, there = export(ARGUMENTS | {"test_time": {"tent_steps": 1}})
    assert there == set() and all("adapts itself" in told[kind]["not_shipped"] for kind in KINDS)


def test_what_is_not_asked_for_is_not_written(export):
    assert export(kinds=[]) == ({}, set())
