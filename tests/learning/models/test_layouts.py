"""Weights as other libraries store them give the features of those libraries' own networks.

transformers, torchxrayvision and MedImageInsight are not part of the environment. For DINOv2 its forward is written
out here; the other names are those of their files, and the network is timm's.
"""

import re

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.layouts import to_timm

DEEP = {"depths": (1, 1, 2, 1), "embed_dims": (32, 64, 96, 128), "num_heads": (2, 4, 6, 8)}  # a small DaViT


@torch.no_grad()
def drawn(network):
    """Draw all weights, and statistics from one batch, so that no layer is close to an identity."""
    for name, value in network.named_parameters():
        nn.init.normal_(value, 1.0 if value.ndim == 1 and name.endswith("weight") else 0.0, 0.1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    return network


def vit(size, **layout):
    """A small vision transformer of timm."""
    return drawn(
        timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=size, embed_dim=48, depth=2, **layout)
    )


def as_transformers_dinov2(state):
    """Name timm's weights as transformers' Dinov2Model stores them."""
    found = {"embeddings.mask_token": torch.zeros(1, state["cls_token"].shape[2])}
    names = {"ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}
    names |= {"attn.proj": "attention.output.dense"}
    outside = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}
    for name, value in state.items():
        if ".qkv." in name:
            _, number, _, _, kind = name.split(".")
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"encoder.layer.{number}.attention.attention.{part}.{kind}"] = rows
            continue
        for timms, theirs in names.items():
            name = name.replace(timms, theirs)
        name = outside.get(name, name).replace("blocks.", "encoder.layer.").replace("patch_embed.proj", "patch_embed")
        name = re.sub(r"^norm\.", "layernorm.", name)
        found[name.replace("patch_embed.", "embeddings.patch_embeddings.projection.")] = value
    return found


def forward_of_dinov2(state, images, heads):
    """The class token of a Dinov2Model, from its weights under the names of transformers."""

    def linear(values, name):
        return functional.linear(values, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(values, name):
        weight = state[f"{name}.weight"]
        return functional.layer_norm(values, weight.shape, weight, state[f"{name}.bias"], 1e-6)

    patch = "embeddings.patch_embeddings.projection"
    patches = functional.conv2d(images, state[f"{patch}.weight"], state[f"{patch}.bias"], stride=16)
    token = state["embeddings.cls_token"].expand(len(images), -1, -1)
    x = torch.cat([token, patches.flatten(2).transpose(1, 2)], dim=1) + state["embeddings.position_embeddings"]
    for at in ("encoder.layer.0", "encoder.layer.1"):
        y = norm(x, f"{at}.norm1")
        q, k, v = (linear(y, f"{at}.attention.attention.{part}") for part in ("query", "key", "value"))
        q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(dim=3)
        y = linear((weights @ v).transpose(1, 2).flatten(2), f"{at}.attention.output.dense")
        x = x + y * state[f"{at}.layer_scale1.lambda1"]
        y = linear(functional.gelu(linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
        x = x + y * state[f"{at}.layer_scale2.lambda1"]
    return norm(x, "layernorm")[:, 0]


@torch.no_grad()
def test_a_dinov2_of_transformers_has_the_features_of_its_own_forward():
    model = vit(48, init_values=0.5)
    state, images = as_transformers_dinov2(model.state_dict()), torch.randn(2, 3, 48, 48)
    model.load_state_dict(to_timm(state, vit(48, init_values=0.5)))
    torch.testing.assert_close(model.eval()(images), forward_of_dinov2(state, images, 3), rtol=1e-4, atol=1e-4)


def names_of_dinov3(blocks):
    """Names and shapes of a DINOv3 S of transformers."""
    width, names = 384, {"embeddings.mask_token": (1, 1, 384), "embeddings.cls_token": (1, 1, 384)}
    names |= {"embeddings.register_tokens": (1, 4, width), "embeddings.patch_embeddings.weight": (width, 3, 16, 16)}
    names |= {f"{name}": (width,) for name in ("embeddings.patch_embeddings.bias", "norm.weight", "norm.bias")}
    for at in (f"layer.{number}" for number in range(blocks)):
        names |= {f"{at}.attention.{part}_proj.weight": (width, width) for part in "qkvo"}
        names |= {f"{at}.attention.{part}_proj.bias": (width,) for part in "qvo"}  # none of the keys
        names |= {f"{at}.norm{part}.{kind}": (width,) for part in (1, 2) for kind in ("weight", "bias")}
        names |= {f"{at}.layer_scale{part}.lambda1": (width,) for part in (1, 2)}
        names |= {f"{at}.mlp.up_proj.weight": (4 * width, width), f"{at}.mlp.up_proj.bias": (4 * width,)}
        names |= {f"{at}.mlp.down_proj.weight": (width, 4 * width), f"{at}.mlp.down_proj.bias": (width,)}
    return names


@torch.no_grad()
@pytest.mark.parametrize("biased", [False, True])
def test_a_dinov3_of_transformers_gets_timms_names_and_its_biases_a_place(biased):
    name = "vit_small_patch16_dinov3_qkvb" if biased else "vit_small_patch16_dinov3"
    model = timm.create_model(name, num_classes=0, depth=2)
    draw = torch.randn if biased else torch.zeros
    state = {key: (draw if "_proj.bias" in key else torch.randn)(shape) for key, shape in names_of_dinov3(2).items()}
    found = to_timm(state, model)
    model.load_state_dict(found)
    q, k, v = found["blocks.1.attn.qkv.weight"].chunk(3)
    assert all(torch.equal(one, state[f"layer.1.attention.{part}_proj.weight"]) for one, part in ((q, "q"), (v, "v")))
    assert torch.equal(k, state["layer.1.attention.k_proj.weight"])
    assert torch.equal(found["blocks.0.gamma_2"], state["layer.0.layer_scale2.lambda1"])
    assert torch.equal(found["reg_token"], state["embeddings.register_tokens"])
    if biased:
        assert torch.equal(found["blocks.0.attn.v_bias"], state["layer.0.attention.v_proj.bias"])
        with pytest.raises(ValueError, match="choose the encoder whose name has '_qkvb'"):
            to_timm(state, timm.create_model("vit_small_patch16_dinov3", num_classes=0, depth=2))


@torch.no_grad()
def test_the_tower_of_an_open_clip_model_has_its_features():
    from open_clip.timm_model import TimmModel

    tower = drawn(TimmModel("test_vit", embed_dim=16, pool="", proj="linear")).eval()
    state = {f"visual.{name}": value for name, value in tower.state_dict().items()}
    state |= {"text.transformer.embeddings.weight": torch.zeros(3, 2), "logit_scale": torch.zeros(())}
    images = torch.randn(2, 3, 160, 160)
    expected = tower.trunk.forward_head(tower.trunk.forward_features(images), pre_logits=True)
    assert {"visual.trunk.pos_embed", "visual.head.proj.weight"} <= state.keys()
    found = build_encoder("test_vit", 3, state).eval()(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_resnet_as_radimagenet_stores_it_has_torchvisions_features():
    backbone = nn.Module()
    backbone.backbone = nn.Sequential(*list(drawn(torchvision.models.resnet50()).children())[:9])
    images = torch.randn(4, 3, 64, 64)
    backbone.backbone(images)
    expected = backbone.eval().backbone(images).flatten(1)
    assert "backbone.4.0.conv1.weight" in backbone.state_dict()
    found = build_encoder("radimagenet_resnet50", 3, backbone.state_dict()).eval()(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3])
def test_a_densenet_as_torchxrayvision_stores_it_has_its_features(channels):
    network = torchvision.models.densenet121(num_classes=18)
    network.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)  # it sees one channel
    images = torch.randn(4, 1, 64, 64)
    drawn(network).features(images)
    expected = functional.relu(network.eval().features(images)).mean(dim=(2, 3))
    state = network.state_dict() | {"op_threshs": torch.zeros(18)}
    encoder = build_encoder("torchxrayvision_densenet121", channels, state).eval()
    torch.testing.assert_close(encoder(images.expand(-1, channels, -1, -1)), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_tower_of_medimageinsight_becomes_timms_davit():
    model = drawn(timm.create_model("davit_huge_fl", num_classes=0, **DEEP)).eval()
    theirs = {"norm1": "{0}_attn.norm", "attn": "{0}_attn.fn", "norm2": "ffn.norm", "mlp": "ffn.fn.net"}
    theirs |= {"cpe1.proj": "conv1.fn.dw", "cpe2.proj": "conv2.fn.dw"}
    state = {"lang_encoder.token_embedding.weight": torch.zeros(2, 2), "image_projection": torch.zeros(2, 2)}
    for name, value in model.state_dict().items():
        name = re.sub(r"^stem\.", "stages.0.downsample.", name).replace("downsample.conv", "downsample.proj")
        name = re.sub(r"^stages\.(\d)\.downsample", r"convs.\1", name)
        name = re.sub(r"^stages\.(\d)\.blocks", r"blocks.\1", name).replace("head.norm", "norms")
        for timms, new in theirs.items():
            new = new.format("window" if "spatial_block" in name else "channel")
            name = re.sub(rf"_block\.{re.escape(timms)}\.", f"_block.{new}.", name)
        state[f"image_encoder.{name}"] = value
    assert "image_encoder.blocks.2.1.channel_block.channel_attn.fn.qkv.weight" in state
    other = timm.create_model("davit_huge_fl", num_classes=0, **DEEP).eval()
    other.load_state_dict(to_timm(state, other))
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(other(images), model(images))


@pytest.mark.parametrize(
    ("name", "foreign"), [("test_vit", "a"), ("vit_small_patch16_dinov3", "visual.trunk.x"), ("davit_tiny", "a.b")]
)
def test_weights_that_do_not_fit_are_refused_in_one_line(name, foreign):
    with pytest.raises(ValueError, match=f"do not fit {name}: they lack \\d+ names, such as .*$") as caught:
        build_encoder(name, 3, {foreign: torch.zeros(1)})
    assert len(str(caught.value)) < 200
