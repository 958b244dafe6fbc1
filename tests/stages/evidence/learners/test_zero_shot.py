import importlib
import json
import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from pipeline.learning.models.state_files import BadWeights, file_sha256
from pipeline.stages.evidence.learners import zero_shot
from pipeline.stages.evidence.learners.zero_shot import (
    NotAvailable,
    load_vision_language,
    prompts_for,
    zero_shot_logits,
)
from tests.stages.evidence.conftest import CONFIG, SIZE, sha_of

open_clip = pytest.importorskip("open_clip")

PROMPTS = {"healthy": ["a healthy brain", "nothing to be seen"], "lesion": ["a brain with a lesion"]}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def random_cases(n=3, size=SIZE, channels=3):
    return np.random.default_rng(0).integers(0, 256, (n, channels, size, size)).astype(np.uint8)


def as_open_clip_sees(image, size=SIZE):
    """An image (H, W, 3) through open_clip's own transform."""
    constants = CONFIG["preprocess_cfg"]
    transform = open_clip.image_transform(size, is_train=False, mean=constants["mean"], std=constants["std"])
    return transform(Image.fromarray(image))


def own_logits(oracle, images, texts):
    with torch.no_grad():
        logits, _ = oracle.get_logits(images, open_clip.SimpleTokenizer(context_length=24)(texts))
    return logits.numpy()


def test_predictions_are_those_of_open_clips_own_forward(folder, oracle):
    cases = random_cases()
    images = torch.stack([as_open_clip_sees(case.transpose(1, 2, 0)) for case in cases])
    texts = [PROMPTS["healthy"][0], PROMPTS["lesion"][0]]
    model = load_vision_language(f"local-dir:{folder}", sha_of(folder))
    logits = zero_shot_logits(model, cases, {"healthy": texts[:1], "lesion": texts[1:]}, channels=3, colour=True)
    np.testing.assert_allclose(logits, own_logits(oracle, images, texts), atol=1e-5)
    assert np.ptp(logits) > 0.1


def test_several_texts_of_a_class_are_open_clips_zero_shot_classifier(folder, oracle):
    cases = random_cases()
    model = load_vision_language(str(folder), sha_of(folder))
    texts = ["one of {}", "a scan of {}, from the side"]
    prompts = {name: [text.format(name) for text in texts] for name in ("a cat", "a tumour", "nothing")}
    weights = open_clip.build_zero_shot_classifier(
        oracle, open_clip.SimpleTokenizer(context_length=24), list(prompts), texts
    )
    images = torch.stack([as_open_clip_sees(case.transpose(1, 2, 0)) for case in cases])
    with torch.no_grad():
        expected = oracle.logit_scale.exp() * oracle.encode_image(images, normalize=True) @ weights
    found = zero_shot_logits(model, cases, prompts, channels=3, colour=True)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_volume_is_the_mean_over_the_middle_slices_of_its_slabs(folder, oracle):
    volume = random_cases(1, channels=6)[0]
    greys = [np.stack([volume[slice_]] * 3, axis=-1) for slice_ in (1, 4)]
    images = torch.stack([as_open_clip_sees(grey) for grey in greys])
    texts = ["a healthy brain", "a brain with a lesion"]
    model = load_vision_language(str(folder), sha_of(folder))
    prompts = {"a": texts[:1], "b": texts[1:]}
    found = zero_shot_logits(model, iter([volume]), prompts, channels=3, colour=False)
    np.testing.assert_allclose(found[0], own_logits(oracle, images, texts).mean(axis=0), atol=1e-5)


def test_a_grey_image_is_shown_in_three_equal_colours(folder):
    model = load_vision_language(str(folder), sha_of(folder))
    grey = random_cases(2, channels=1)
    as_one = zero_shot_logits(model, grey, PROMPTS, channels=1, colour=False)
    as_three = zero_shot_logits(model, np.repeat(grey, 3, axis=1), PROMPTS, channels=3, colour=True)
    np.testing.assert_array_equal(as_one, as_three)


@pytest.mark.parametrize("size", [20, 77])
def test_image_of_another_size_is_resized_as_in_open_clip(folder, size):
    rows, columns = np.mgrid[:size, :size] / size
    smooth = np.stack([rows, columns, rows * columns])
    image = (40 + 170 * smooth).astype(np.uint8)
    model = load_vision_language(str(folder), sha_of(folder))
    ours = zero_shot._images(model, image, channels=3, colour=True)[0]
    theirs = as_open_clip_sees(image.transpose(1, 2, 0))
    level = 1 / 255 / np.array(CONFIG["preprocess_cfg"]["std"])
    assert (np.abs(ours - theirs).amax(dim=(1, 2)).numpy() < 1.01 * level).all()


def test_a_score_does_not_depend_on_the_cases_beside_it(folder):
    model, cases = load_vision_language(str(folder), sha_of(folder)), random_cases(5)
    together = zero_shot_logits(model, cases, PROMPTS, channels=3, colour=True)
    np.testing.assert_array_equal(together[3:4], zero_shot_logits(model, cases[3:4], PROMPTS, channels=3, colour=True))
    assert together.dtype == np.float64 and zero_shot_logits(model, [], PROMPTS, channels=3, colour=True).shape == (
        0,
        2,
    )


def test_a_changed_byte_is_refused_before_the_file_is_opened(folder, monkeypatch):
    file, expected = folder / "open_clip_model.safetensors", sha_of(folder)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(open_clip, "load_checkpoint", lambda *args, **kwargs: pytest.fail("it was opened"))
    with pytest.raises(BadWeights, match=sha_of(folder)):
        load_vision_language(str(folder), expected)


def test_a_model_without_a_hash_is_refused_and_its_hash_told(folder):
    with pytest.raises(BadWeights, match=f"vision_language_sha256 is null.*{sha_of(folder)}"):
        load_vision_language(str(folder), None)


def test_older_file_of_tensors_is_read_and_one_with_code_is_refused(folder, oracle):
    (folder / "open_clip_model.safetensors").unlink()
    older = folder / "open_clip_pytorch_model.bin"
    torch.save(oracle.state_dict(), older)
    model = load_vision_language(str(folder), file_sha256(older))
    assert torch.equal(model.network.text_projection, oracle.text_projection)
    torch.save({"a": Mark(folder / "mark")}, older)
    with pytest.raises(BadWeights, match="not an open_clip model"):
        load_vision_language(str(folder), file_sha256(older))
    assert not (folder / "mark").exists()


class Mark:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("absent", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused(folder, absent):
    sha256 = sha_of(folder)
    (folder / absent).unlink()
    with pytest.raises(BadWeights, match="needs open_clip_config.json and one of open_clip_model"):
        load_vision_language(str(folder), sha256)


@pytest.mark.parametrize(
    "change", [{"embed_dim": 24}, {"unheard_of": 1}, {"vision_cfg": {"timm_model_name": "unheard_of"}}]
)
def test_weights_of_another_build_are_refused(folder, change):
    config = {**CONFIG, "model_cfg": {**CONFIG["model_cfg"], **change}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(BadWeights, match="not an open_clip model"):
        load_vision_language(str(folder), sha_of(folder))


def test_the_hub_needs_a_revision():
    with pytest.raises(BadWeights, match="@REVISION"):
        load_vision_language("hub:somebody/model", "0" * 64)


def test_an_unreachable_hub_is_named_with_the_cure(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(BadWeights, match="no route.*set its folder"):
        load_vision_language("hub:somebody/model@abc", "0" * 64)


def test_hub_model_is_fetched_at_its_revision_and_checked(folder, oracle, tmp_path, monkeypatch):
    """The hub here holds the older file only, as many do."""
    from huggingface_hub.errors import EntryNotFoundError

    hub, cache, asked = tmp_path / "hub", tmp_path / "cache", []
    hub.mkdir()
    torch.save(oracle.state_dict(), hub / "open_clip_pytorch_model.bin")

    def snapshot(repository, revision, allow_patterns):
        cache.mkdir()
        shutil.copy(folder / "open_clip_config.json", cache)
        return str(cache)

    def download(repository, name, revision):
        asked.append((repository, name, revision))
        if not (hub / name).exists():
            raise EntryNotFoundError(name)
        return str(shutil.copy(hub / name, cache))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    model = load_vision_language("hub:a/b@abc", file_sha256(hub / "open_clip_pytorch_model.bin"))
    assert asked[-1] == ("a/b", "open_clip_pytorch_model.bin", "abc") and len(asked) == 3
    assert model.provenance.source == "hub:a/b@abc"
    assert zero_shot_logits(model, random_cases(2), PROMPTS, channels=3, colour=True).shape == (2, 2)


def test_provenance_names_the_folder_without_where_it_lies(folder):
    provenance = load_vision_language(str(folder), sha_of(folder)).provenance
    assert provenance.source == f"folder {folder.name}" and provenance.sha256 == sha_of(folder)


def without(monkeypatch, package):
    real_import, real_find = importlib.import_module, importlib.util.find_spec

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(zero_shot, "import_module", absent)
    monkeypatch.setattr(zero_shot, "find_spec", lambda name: None if name == package else real_find(name))


def test_without_the_package_it_is_not_available_and_the_cure_is_told(folder, monkeypatch):
    without(monkeypatch, "open_clip")
    with pytest.raises(NotAvailable, match=r"pip install 'medadapt\[zeroshot\]'"):
        load_vision_language(str(folder), sha_of(folder))


@pytest.mark.parametrize("text", [{"hf_model_name": "a/bert"}, {"hf_tokenizer_name": "a/t5"}])
def test_a_text_encoder_of_transformers_is_not_available_without_it(folder, monkeypatch, text):
    without(monkeypatch, "transformers")
    config = {"model_cfg": {**CONFIG["model_cfg"], "text_cfg": {**CONFIG["model_cfg"]["text_cfg"], **text}}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(NotAvailable, match="pip install transformers"):
        load_vision_language(str(folder), sha_of(folder))


def of_bert(folder):
    """Write a tiny random model whose text encoder is a BERT, as BiomedCLIP's is."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "healthy", "brain", "lesion", "with"]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    ).save_pretrained(folder)
    text = {"hf_model_name": "a/bert", "hf_tokenizer_name": "a/bert", "hf_proj_type": "mlp", "context_length": 12}
    config = {**CONFIG["model_cfg"], "custom_text": True, "text_cfg": text}
    here = {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}
    network = open_clip.CustomTextCLIP(CONFIG["model_cfg"]["embed_dim"], config["vision_cfg"], here).eval()
    torch.save(network.state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps({**CONFIG, "model_cfg": config}))
    return network


def test_a_text_encoder_of_transformers_is_built_from_the_folder_alone(tmp_path):
    oracle = of_bert(tmp_path)
    weights = tmp_path / "open_clip_pytorch_model.bin"
    model = load_vision_language(str(tmp_path), file_sha256(weights))
    tokens = torch.tensor([[2, 5, 7, 9, 5, 8, 3, *[0] * 5]])  # [CLS] a brain with a lesion [SEP]
    with torch.no_grad():
        expected = normalize(oracle.encode_text(tokens)[0], dim=0)
    torch.testing.assert_close(zero_shot._embedded(model, ["a brain with a lesion"]), expected, atol=1e-5, rtol=0)
    (tmp_path / "config.json").unlink()
    with pytest.raises(BadWeights, match=r"a/bert; copy the config\.json"):
        load_vision_language(str(tmp_path), file_sha256(weights))


def test_prompts_are_made_of_the_names_in_the_order_of_the_classes():
    assert prompts_for(["no_lesion", "lesion"], {"lesion": ("an MRI with a lesion",)}) == {
        "no_lesion": ["a medical image showing no lesion"],
        "lesion": ["an MRI with a lesion"],
    }


@pytest.mark.parametrize(
    ("given", "said"), [({"tumour": ["x"]}, "tumour is not a class"), ({"b": []}, "b has no text")]
)
def test_prompts_for_no_class_or_without_words_are_refused(given, said):
    with pytest.raises(ValueError, match=f"evidence.prompts: {said}"):
        prompts_for(["a", "b"], given)


def test_channels_that_are_no_whole_number_of_instances_are_refused(folder):
    model = load_vision_language(str(folder), sha_of(folder))
    with pytest.raises(ValueError, match="5 channels"):
        zero_shot_logits(model, random_cases(1, channels=5), PROMPTS, channels=3, colour=False)
