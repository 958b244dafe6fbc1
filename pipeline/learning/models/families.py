"""Cut timm's networks into stages that can be run one by one; no other file depends on their architecture.

A convolutional stage maps (N, C, H, W) to (N, C', H', W'). A stage of a vision transformer does the same to its
tokens, which are maps with one column, (N, C, tokens, 1): class and register tokens first, then the patches row by
row. With channels last, their memory layout is the transformer's (N, tokens, C), so that nothing is copied.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from timm.models import is_model_in_modules
from timm.models.convnext import ConvNeXt
from timm.models.davit import DaVit
from timm.models.deit import VisionTransformerDistilled
from timm.models.densenet import DenseNet
from timm.models.efficientnet import EfficientNet
from timm.models.eva import Eva
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.repvit import RepVit
from timm.models.resnet import ResNet
from timm.models.tiny_vit import Attention, TinyVit
from timm.models.vgg import VGG
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

VIT_GROUPS = 4
VIT_FILES = ["vision_transformer", "vision_transformer_hybrid", "deit", "eva"]


class UnknownEncoder(ValueError):
    """A name that timm does not know, or an architecture that cannot be cut into stages here."""


class NotInflatable(UnknownEncoder):
    """An encoder with layers that have no three-dimensional counterpart here; the message names the reason."""


@dataclass(frozen=True)
class Cut:
    """The stages of a backbone.

    Attributes
    ----------
    stages : list of nn.Module
        In order they compose the backbone's `forward_features`.
    norm : nn.Module
        The layer that timm applies to the mean (N, C, 1, 1) of the last stage.
    pooled : slice
        The rows of a map over which the mean is taken: all rows, or some of the tokens of a vision transformer.
    """

    stages: list[nn.Module]
    norm: nn.Module = field(default_factory=nn.Identity)
    pooled: slice = field(default_factory=lambda: slice(None))


def options_of(name: str) -> dict[str, Any]:
    """List the timm options that make a network accept images of any size.

    A vision transformer then interpolates its position embeddings (bicubic, antialiased), and pads the image with
    zeros to whole patches.
    """
    if is_model_in_modules(name, VIT_FILES):
        return {"dynamic_img_size": True, "dynamic_img_pad": True}
    return {}


def cutter_of(model: nn.Module, name: str) -> Callable[[Any], Cut]:
    """Choose the function that cuts a timm network without a classifier; layers are shared, not copied.

    Raises
    ------
    UnknownEncoder
        If its family is not one of `FAMILIES`, or its pooling is not a mean over tokens.
    """
    cut = next((cut for family, cut in FAMILIES.items() if isinstance(model, family)), None)
    if cut is None:
        known = ", ".join(family.__name__ for family in FAMILIES)
        raise UnknownEncoder(f"'{name}' is a {type(model).__name__}, which is not one of {known}")
    if isinstance(model, VisionTransformer | Eva) and model.global_pool not in ("token", "avg"):
        raise UnknownEncoder(f"'{name}' pools its tokens by '{model.global_pool}'; here it must be 'token' or 'avg'")
    return cut


def _efficientnet(model: Any) -> Cut:
    return Cut([nn.Sequential(model.conv_stem, model.bn1), *model.blocks, nn.Sequential(model.conv_head, model.bn2)])


def _mobilenet(model: Any) -> Cut:
    """Cut before the pooling; what timm does with the mean, such as MobileNetV4's last convolution, is the norm."""
    stem = nn.Sequential(model.conv_stem, model.bn1)
    return Cut([stem, *model.blocks], nn.Sequential(model.conv_head, model.norm_head, model.act2))


def _resnet(model: Any) -> Cut:
    stem = nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool)
    return Cut([stem, model.layer1, model.layer2, model.layer3, model.layer4])


def _convnext(model: Any) -> Cut:
    *stages, last = model.stages
    return Cut([model.stem, *stages, nn.Sequential(last, model.norm_pre)], model.head.norm)


def _repvit(model: Any) -> Cut:
    return Cut([model.stem, *model.stages])


def _tiny_vit(model: Any) -> Cut:
    for layer in model.modules():
        if isinstance(layer, Attention):
            layer.register_forward_pre_hook(_without_cache)
    return Cut([model.patch_embed, *model.stages], model.head.norm)


def _without_cache(layer: Any, _: Any) -> None:
    """Drop the position biases that timm keeps of a network in inference; after new weights they would be stale."""
    layer.attention_bias_cache = {}


def _densenet(model: Any) -> Cut:
    return Cut(_cut_before(model.features, lambda name, _: name.startswith("denseblock")))


def _vgg(model: Any) -> Cut:
    pooled = {int(name) + 1 for name, layer in model.features.named_children() if isinstance(layer, nn.MaxPool2d)}
    return Cut(_cut_before(model.features, lambda name, _: int(name) in pooled))


def _cut_before(chain: nn.Module, starts: Callable[[str, nn.Module], bool]) -> list[nn.Module]:
    pieces: list[list[nn.Module]] = [[]]
    for name, layer in chain.named_children():
        if starts(name, layer):
            pieces.append([])
        pieces[-1].append(layer)
    return [nn.Sequential(*piece) for piece in pieces if piece]


class Embedding(nn.Module):
    """Patch embedding of a ViT, with class and register tokens and positions, without blocks and norms."""

    def __init__(self, rest: Any) -> None:
        super().__init__()
        self.rest = rest

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (N, C, H, W) into tokens (N, width, tokens, 1)."""
        return _as_maps(self.rest.forward_features(images))


class Blocks(nn.Sequential):
    """Consecutive blocks of a ViT, from tokens (N, C, tokens, 1) to the same shape."""

    def forward(self, maps: Tensor) -> Tensor:
        """Run the blocks in the layout that they expect."""
        return _as_maps(super().forward(maps.squeeze(3).transpose(1, 2)))


def _as_maps(tokens: Tensor) -> Tensor:
    return tokens.transpose(1, 2).unsqueeze(3)


class RotaryEmbedding(Embedding):
    """Patch embedding of an EVA or a DINOv3 transformer; its blocks find the grid of patches in the number of tokens.

    Raises
    ------
    ValueError
        If images are not square.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Turn square images (N, C, H, H) into tokens (N, width, tokens, 1)."""
        if images.shape[2] != images.shape[3]:
            raise ValueError(f"rotary positions need square images, not {images.shape[2]} x {images.shape[3]}")
        return super().forward(images)


class RotaryBlocks(nn.Module):
    """Consecutive blocks with rotary positions, from tokens (N, C, tokens, 1) of a square image to the same shape.

    Parameters
    ----------
    blocks : list of nn.Module
    rest : Eva
        Gives the rotary embedding, which has no weights, and the number of class and register tokens.
    norm : nn.Module
        Follows the last block.
    """

    def __init__(self, blocks: list[nn.Module], rest: Any, norm: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.rope = rest.rope
        self.prefix = rest.num_prefix_tokens

    def forward(self, maps: Tensor) -> Tensor:
        """Run the blocks in the layout that they expect."""
        tokens = maps.squeeze(3).transpose(1, 2)
        side = math.isqrt(tokens.shape[1] - self.prefix)
        rope = None if self.rope is None else self.rope.get_embed(shape=[side, side])
        for block in self.blocks:
            tokens = block(tokens, rope=rope)
        return _as_maps(self.norm(tokens))


def _vit(model: Any) -> Cut:
    """Cut into the embedding and groups of blocks, the last with the final norm.

    The pooled tokens are those that timm pools: the class token if `global_pool` is 'token' (in a distilled DeiT its
    mean with the distillation token), the mean of the patches if it is 'avg', which some models normalise afterwards.
    """
    prefix = 0 if model.pool_include_prefix else model.num_prefix_tokens
    pooled = slice(prefix, None) if model.global_pool == "avg" else slice(0, 1)
    if isinstance(model, VisionTransformerDistilled):
        pooled = slice(0, 2)
    parts = _groups(model)
    parts[-1].append(model.norm)
    norm = _without_blocks(model)
    return Cut([Embedding(model), *(Blocks(*part) for part in parts)], norm, pooled)


def _eva(model: Any) -> Cut:
    """Cut as `_vit` does; a mean over tokens leaves out class and register tokens."""
    pooled = slice(model.num_prefix_tokens, None) if model.global_pool == "avg" else slice(0, 1)
    norms = [nn.Identity() for _ in _groups(model)[1:]] + [model.norm]
    parts = [RotaryBlocks(part, model, norm) for part, norm in zip(_groups(model), norms, strict=True)]
    norm = _without_blocks(model)
    return Cut([RotaryEmbedding(model), *parts], norm, pooled)


def _groups(model: Any) -> list[list[nn.Module]]:
    """Divide the blocks of a transformer into groups of about equal size."""
    blocks, groups = list(model.blocks), min(VIT_GROUPS, len(model.blocks))
    bounds = [round(number * len(blocks) / groups) for number in range(groups + 1)]
    return [blocks[first:last] for first, last in pairwise(bounds)]


def _without_blocks(model: Any) -> nn.Module:
    """Take blocks and norms out of a transformer; return the norm of the pooled tokens."""
    norm = nn.Sequential(nn.Flatten(1), model.fc_norm)
    model.blocks, model.norm, model.fc_norm = nn.Sequential(), nn.Identity(), nn.Identity()
    return norm


FAMILIES: dict[type[nn.Module], Callable[[Any], Cut]] = {
    EfficientNet: _efficientnet,
    MobileNetV3: _mobilenet,
    ResNet: _resnet,
    ConvNeXt: _convnext,
    DenseNet: _densenet,
    VGG: _vgg,
    RepVit: _repvit,
    TinyVit: _tiny_vit,
    DaVit: _convnext,
    VisionTransformer: _vit,
    Eva: _eva,
}
