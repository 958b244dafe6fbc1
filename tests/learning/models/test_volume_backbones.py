"""Networks pretrained on volumes, in the layout of their files and with fewer channels."""

import pytest
import torch
from monai.networks.nets.segresnet_ds import SegResEncoder
from torch import nn
from torch.nn import functional

from pipeline.learning.models import volume_backbones
from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.families import UnknownEncoder
from pipeline.learning.models.volume_backbones import res_enc_l
from tests.conftest import classifier

SMALL = {"spatial_dims": 3, "init_filters": 8, "blocks_down": (1, 1, 2, 1, 1)}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(volume_backbones, "CT_FM", SMALL)
    monkeypatch.setattr(volume_backbones, "WIDTHS", (4, 8, 8, 8, 8, 8))
    monkeypatch.setattr(volume_backbones, "BLOCKS", (1, 2, 1, 1, 1, 1))


@torch.no_grad()
def as_nnssl_stores(network):
    """Draw the weights of a ResEnc-L, and name them as a training of nnssl does."""
    state = {}
    for name, value in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        inside, _, part = layer.rpartition(".")
        drawn = torch.randn_like(value) * 0.2 + (kind == "weight" and value.ndim == 1)
        twin = f"{inside}.all_modules.{0 if part == 'conv' else 1}.{kind}"  # nnU-Net keeps layers under two names
        for key in (name, twin):
            state |= {f"encoder.{key}": drawn, f"decoder.encoder.{key}": drawn}
    return state | {"decoder.seg_layers.0.weight": torch.zeros(1, 4, 1, 1, 1)}


def normed(volumes, state, name, **how):
    """A convolution and its instance normalisation, by the names in a file."""
    weight, bias = state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias")
    found = functional.conv3d(volumes, weight, bias, padding=weight.shape[2] // 2, **how)
    return functional.instance_norm(found, weight=state[f"{name}.norm.weight"], bias=state[f"{name}.norm.bias"])


@torch.no_grad()
def test_a_res_enc_l_of_nnssl_has_the_features_of_its_description():
    state = as_nnssl_stores(res_enc_l(1).network)
    encoder = build_encoder("openmind_resenc_l", 1, state, pooled_stages=5, filter_depth=3).eval()
    volume = torch.randn(2, 1, 32, 64, 64)
    x = functional.leaky_relu(normed(volume, state, "encoder.stem.convs.0"))
    for at, stride, shortcut in (("0.blocks.0", 1, None), ("1.blocks.0", 2, "skip.1"), ("1.blocks.1", 1, None)):
        at = f"encoder.stages.{at}"
        y = functional.leaky_relu(normed(x, state, f"{at}.conv1", stride=stride))
        x = functional.avg_pool3d(x, stride)
        x = normed(x, state, f"{at}.{shortcut}") if shortcut else x
        x = functional.leaky_relu(normed(y, state, f"{at}.conv2") + x)
    maps, pooled = encoder.run(volume, volume.new_zeros(2, 0), last=2)
    torch.testing.assert_close(maps, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pooled, x.mean(dim=(2, 3, 4)), rtol=1e-4, atol=1e-4)
    assert encoder(volume).shape == (2, 5 * 8) == (2, encoder.width)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2])
def test_ct_fm_has_the_features_of_monais_encoder(channels):
    network = SegResEncoder(in_channels=1, **SMALL)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.momentum = 1.0
    volume = torch.randn(2, 1, 8, 32, 32)
    network.train()(volume)
    encoder = build_encoder("ct_fm", channels, network.state_dict(), filter_depth=3).eval()
    expected = network.eval()(volume)[-1].mean(dim=(2, 3, 4))
    assert expected.std() > 1e-3
    torch.testing.assert_close(encoder(volume.expand(-1, channels, -1, -1, -1)), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["ct_fm", "openmind_resenc_l"])
def test_a_volume_of_any_size_can_be_split_anywhere_and_started_again(name):
    trained = classifier(1, encoder=name, pooled_stages=2, filter_depth=3).eval()
    volumes = torch.randn(1, 1, 5, 32, 48)
    expected = trained.encoder(volumes)
    for boundary in range(len(trained.encoder.stages) + 1):
        stored = [one.clone() for one in trained.encoder.run(volumes, volumes.new_zeros(1, 0), last=boundary)]
        assert torch.equal(trained.encoder.run(*stored, first=boundary)[1], expected)
    started = build_encoder(name, 1, trained.state_dict(), pooled_stages=2, filter_depth=3).eval()
    assert torch.equal(started(volumes), expected)
    assert trained(torch.randint(0, 256, (1, 3, 32, 32))).shape == (1, 2)


@pytest.mark.parametrize("depth", [1, 5])
def test_an_encoder_of_volumes_asks_for_the_depth_of_its_filters(depth):
    with pytest.raises(UnknownEncoder, match="'ct_fm' was pretrained on volumes; set adapt.filter_depth to 3"):
        build_encoder("ct_fm", 1, filter_depth=depth)


def test_weights_of_another_network_are_refused_by_an_encoder_of_volumes():
    for name, foreign in (("ct_fm", "openmind_resenc_l"), ("openmind_resenc_l", "ct_fm")):
        ours = build_encoder(foreign, 1, filter_depth=3).state_dict()
        with pytest.raises(ValueError, match=f"do not fit {name}"):
            build_encoder(name, 1, {f"encoder.{key}": value for key, value in ours.items()}, filter_depth=3)
    with pytest.raises(ValueError, match="do not fit ct_fm: they lack .* such as"):
        build_encoder("ct_fm", 1, as_nnssl_stores(res_enc_l(1).network), filter_depth=3)
