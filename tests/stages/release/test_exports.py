"""TorchScript and ONNX by their own runtimes, without our code, beside the network and the map that they hold."""

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import network_from
from pipeline.metrics.calibrators.calibrator import calibrator_from
from pipeline.stages.release.calibrated import mapped
from pipeline.stages.release.exporting import encoders_of, predict_by
from pipeline.stages.release.exports import (
    ALLOWED,
    IN_BATCHES,
    WRITERS,
    Exportable,
    largest_differences,
    write_onnx,
    write_torchscript,
)
from pipeline.stages.release.portable import NotPortable, portable
from tests.bundle.bundles import ARGUMENTS, CALIBRATOR, EVERY, fitted
from tests.conftest import ROOT, TINY_ENCODER

PLATT = fitted("platt")
SCALE = {"percentiles": [1, *range(10, 100, 10), 99], "standard": [list(range(10, 131, 12))]}
VARYING = {"sites": {"names": ["a", "b"], "per_site": "normalisation"}}
COMBAT = {"sites": {"names": ["a", "b"], "per_site": "features"}}
FORMS = {
    "grades from several stages, harmonised twice": {
        "encoder": {"name": TINY_ENCODER, "pooled_stages": 3},
        "instances": ARGUMENTS["instances"] | {"harmonise": SCALE},
        "head": {"n_classes": 3, "kind": "ordinal"},
    }
    | COMBAT,
    "neighbours and values of each site": {"head": {"n_classes": 3, "kind": "neighbours", "n_cases": 9}} | VARYING,
    "three dimensions": {"encoder": {"name": TINY_ENCODER, "filter_depth": 3}},
}
channels = torch.randint(0, 256, (7, 12, 32, 32), generator=torch.Generator().manual_seed(1)).float()


def network_of(arguments):
    """A network with something to say: no weight of its head is zero, and sites differ."""
    network = network_from(arguments)
    for name, value in network.state_dict().items():
        if "head" in name and value.is_floating_point():
            torch.nn.init.normal_(value)
        if name.endswith("targets"):
            value.copy_(torch.eye(3).repeat(3, 1))
        if "site_values.values" in name:
            value += torch.arange(1, len(value) + 1).view(-1, *[1] * (value.ndim - 1)) / 3
        if name.endswith("neighbours"):
            value.fill_(4)
    return network


def off(kinds, network, calibrator, folder):
    """How far each written file is from the network, on all channels."""
    predictors = {kind: WRITERS[kind](Exportable(network, calibrator, channels[:1]), folder / kind) for kind in kinds}
    return largest_differences(predict_by(network, calibrator_from(calibrator)), predictors, channels)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_network_is_equal_in_both_formats(form, tmp_path):
    network = inference(portable(network_of(ARGUMENTS | FORMS[form])))
    count, worst = off(WRITERS, network, PLATT, tmp_path)
    assert count == 7 and set(worst) == set(WRITERS)
    assert all((one <= ALLOWED).all() for one in worst.values()), worst


def test_a_portfolio_with_a_member_of_smaller_images_is_equal_in_both(tmp_path):
    small = ARGUMENTS | {"instances": ARGUMENTS["instances"] | {"side": 24}, "test_time": {"tta": ["mirror"]}}
    network = inference(portable(network_of({"portfolio": [ARGUMENTS, small]})))
    _, worst = off(WRITERS, network, PLATT, tmp_path)
    assert set(worst) == set(WRITERS) and all((one <= ALLOWED).all() for one in worst.values()), worst


def test_an_ensemble_with_test_time_augmentation_is_equal_in_both_formats(tmp_path):
    members = [ARGUMENTS | {"test_time": {"tta": ["mirror"]}}, ARGUMENTS | COMBAT]
    _, worst = off(WRITERS, inference(portable(network_of({"members": members}))), PLATT, tmp_path)
    assert all((one <= ALLOWED).all() for one in worst.values()), worst


def test_an_export_has_the_values_for_unknown_sites():
    network = inference(network_of(ARGUMENTS | VARYING))
    known, unknown = network(channels, "b"), network(channels)
    assert (known - unknown).abs().max() > 1e-4
    torch.testing.assert_close(portable(network)(channels), unknown, rtol=0, atol=0)
    assert not [name for name in network.state_dict() if "site_values" in name]


def test_no_activation_of_an_exported_network_overwrites_its_input():
    network = network_of(ARGUMENTS)
    before = [module for module in network.modules() if getattr(module, "inplace", False)]
    assert before
    portable(network)
    assert not [module for module in before if module.inplace]


def test_a_network_that_learns_from_every_case_is_refused_with_the_reason():
    with pytest.raises(NotPortable, match="adapts itself to every case"):
        portable(network_from({"members": [ARGUMENTS, ARGUMENTS | {"test_time": {"tent_steps": 1}}]}))


@pytest.mark.parametrize(("method", "activation"), EVERY)
def test_the_map_in_torch_is_the_map_in_numpy(method, activation):
    n_classes = 2 if activation == "softmax" and method in ("beta", "isotonic") else 3
    calibrator = fitted(method, activation, n_classes)
    logits = np.random.default_rng(1).normal(size=(200, n_classes)) * 6
    expected = calibrator_from(calibrator).apply(logits)
    np.testing.assert_allclose(mapped(torch.from_numpy(logits), calibrator).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("knots", [([0.5], [0.3]), ([-1.0, 0.0, 2.0], [0.1, 0.2, 0.9])])
def test_an_isotonic_map_is_level_beyond_its_knots(knots):
    one = {"method": "isotonic", "activation": "softmax", "margins": knots[0], "probabilities": knots[1]}
    logits = np.array([[0.0, -9.0], [0.0, 1.0], [0.0, 9.0]])
    expected = calibrator_from(one).apply(logits)
    np.testing.assert_allclose(mapped(torch.from_numpy(logits), one), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("method", ["isotonic", "dirichlet", "labels"])
def test_maps_travel_in_both_formats(method, tmp_path):
    class Some(torch.nn.Module):
        def forward(self, channels):
            return channels.mean(dim=(2, 3))[:, :n_classes] / 10 - 12

    n_classes = 2 if method == "isotonic" else 3
    calibrator = fitted("beta", "sigmoid") if method == "labels" else fitted(method, "softmax", n_classes)
    _, worst = off(WRITERS, Some().eval(), calibrator, tmp_path)
    assert all((one <= ALLOWED).all() for one in worst.values()), worst


def test_onnx_has_named_outputs_any_batch_size_and_the_facts(tmp_path):
    network = inference(network_from(ARGUMENTS))
    facts = {"calibration": PLATT, "classes": ["a", "b"]}
    write_onnx(Exportable(network, PLATT, channels[:1], facts), tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [(one.name, one.shape) for one in session.get_inputs()] == [("image", ["batch", 12, 32, 32])]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [
        ("pred", ["batch", 3]),
        ("logits", ["batch", 3]),
    ]
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["calibration"]) == PLATT and json.loads(known["classes"]) == ["a", "b"]


def test_torchscript_gives_logits_and_by_name_probabilities(tmp_path):
    network = inference(network_of(ARGUMENTS))
    write_torchscript(Exportable(network, CALIBRATOR, channels[:1]), tmp_path / "model.ts")
    loaded = torch.jit.load(tmp_path / "model.ts")
    torch.testing.assert_close(loaded(channels), network(channels), rtol=1e-5, atol=1e-5)
    expected = (network(channels) / CALIBRATOR["temperature"]).softmax(dim=1)
    torch.testing.assert_close(loaded.probabilities(channels), expected, rtol=1e-5, atol=1e-5)


def test_exports_hold_no_path_and_onnx_is_reproducible(tmp_path):
    class Some(torch.nn.Module):
        def forward(self, channels):
            return channels.mean(dim=(2, 3))[:, :3]

    for kind, write in WRITERS.items():
        for number in range(2):
            write(Exportable(Some().eval(), CALIBRATOR, channels[:1]), tmp_path / f"{kind}{number}")
        content = (tmp_path / f"{kind}0").read_bytes()
        # TorchScript counts the modules that a process has traced so far, in their names.
        assert kind == "torchscript" or content == (tmp_path / f"{kind}1").read_bytes(), kind
        if kind == "torchscript":
            with zipfile.ZipFile(tmp_path / "torchscript0") as archive:
                content = b"".join(map(archive.read, archive.namelist()))
        here = (tmp_path, ROOT, Path(torch.__file__).parent, Path.home())
        assert not [folder for folder in here if str(folder).encode() in content], kind


def test_the_largest_difference_is_found_in_any_case_batch_or_output():
    def predict(some, add=0.0, where=None, size=None):
        found = some.mean(dim=(1, 2, 3)).numpy()[:, None] + np.zeros(3)
        hit = where is None or (some == channels[where]).flatten(1).all(dim=1).numpy()[:, None]
        hit = hit & (size is None or len(some) == size)
        return found * 0 + 0.5 + add * hit, found + 0 * hit

    def apart(**change):
        return largest_differences(predict, {"export": lambda some: predict(some, **change)}, channels)[1]["export"][0]

    assert apart() == 0
    assert apart(add=0.25) == apart(add=0.25, where=6) == apart(add=0.25, size=5) == apart(add=0.25, size=1) == 0.25
    assert np.isnan(apart(add=np.nan, where=3))
    _, worst = largest_differences(
        predict, {"export": lambda some: (predict(some)[0], predict(some)[1] * 1.5)}, channels
    )
    np.testing.assert_allclose(worst["export"], [0, 0.5])  # of their size: they are far above 1


def test_every_case_is_compared_alone_and_the_first_ones_in_batches():
    sizes, many = [], torch.rand(IN_BATCHES + 3, 2, 4, 4)

    def predict(some):
        return (some.mean(dim=(1, 2, 3)).numpy()[:, None],) * 2

    def counted(some):
        sizes.append(len(some))
        return predict(some)

    assert largest_differences(predict, {"export": counted}, many)[0] == len(many)
    assert sizes.count(1) == len(many) and sizes.count(5) == IN_BATCHES // 5 and set(sizes) == {1, 5}


def test_encoders_are_named_once():
    assert encoders_of({"members": [ARGUMENTS, ARGUMENTS]}) == encoders_of(ARGUMENTS) == TINY_ENCODER
