"""Builds a timm backbone as a chain of stages, so that any prefix of it can be frozen and computed once.

The only file that knows how timm's networks are put together.
"""

from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from timm.models import adapt_input_conv
from timm.models.convnext import ConvNeXt
from timm.models.densenet import DenseNet
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from torch import Tensor, nn


class UnknownEncoder(ValueError):
    """A name that timm does not know, or a family that is not cut into stages here."""


class Encoder(nn.Module):
    """A convolutional backbone whose features are pooled from several of its last stages.

    The deepest stage knows objects, the ones before it know texture and edges; on small medical cohorts their means
    side by side separate better than the deepest alone ("hypercolumns", Hariharan et al. 2015, section 3).

    Attributes
    ----------
    stages : nn.ModuleList
        Composed in order they are the backbone's `forward_features`.
    width : int
        Length of a feature vector.
    """

    def __init__(self, stages: list[nn.Module], norm: nn.Module, widths: list[int], pooled_stages: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.norm = norm
        self.first_pooled = max(len(stages) - pooled_stages, 0)
        self.width = sum(widths[self.first_pooled :])

    def run(self, maps: Tensor, pooled: Tensor, first: int = 0, last: int | None = None) -> tuple[Tensor, Tensor]:
        """Run stages `first` to before `last`, and add the mean of each pooled stage to what was pooled before.

        Parameters
        ----------
        maps : (N, C, H, W)
        pooled : (N, w)
            w = 0 before the first stage.

        Returns
        -------
        maps : (N, C', H', W')
        pooled : (N, w')
        """
        for number, stage in list(enumerate(self.stages))[first:last]:
            maps = stage(maps)
            if number >= self.first_pooled:
                mean = maps.mean(dim=(2, 3), keepdim=True)
                mean = self.norm(mean) if number == len(self.stages) - 1 else mean
                pooled = torch.cat([pooled, mean.flatten(1)], dim=1)
        return maps, pooled

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (N, C, H, W) into features (N, width)."""
        return self.run(images, images.new_zeros(len(images), 0))[1]


def build_encoder(
    name: str, in_channels: int, state: Mapping[str, Tensor] | None = None, pooled_stages: int = 1
) -> Encoder:
    """Build an encoder by its timm name.

    Parameters
    ----------
    name : str
        A timm model of the families EfficientNet, ResNet, ConvNeXt, DenseNet or VGG.
    in_channels : int
        Channels of an image. Weights for three are summed (one channel) or repeated and scaled by 3 / n, so
        that the first response to a grey image keeps its scale.
    state : mapping, optional
        Pretrained weights under timm's names; a classifier's weights in it are left out. Random without.
    pooled_stages : int
        How many of the last stages give features; 1 is what timm's own classifier sees.

    Raises
    ------
    UnknownEncoder
        If the name or its family is unknown.
    ValueError
        If the weights do not fit the network; the message names them.
    """
    if not timm.is_model(name):
        raise UnknownEncoder(f"timm knows no model '{name}'; `timm.list_models()` lists them")
    model: Any = timm.create_model(name, pretrained=False, in_chans=in_channels, num_classes=0)
    if state is not None:
        _load(model, name, state, in_channels)
    cut = next((cut for family, cut in FAMILIES.items() if isinstance(model, family)), None)
    if cut is None:
        known = ", ".join(family.__name__ for family in FAMILIES)
        raise UnknownEncoder(f"'{name}' is a {type(model).__name__}, which is not one of {known}")
    norm: nn.Module = model.head.norm if isinstance(model, ConvNeXt) else nn.Identity()  # type: ignore[assignment]
    stages = cut(model)
    return Encoder(stages, norm, _widths(stages, in_channels), pooled_stages)


def preprocessing_of(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Look up the mean and standard deviation, of three channels in [0, 1], that timm's weights were trained with."""
    config: Any = timm.get_pretrained_cfg(name)
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return tuple(config.mean), tuple(config.std)


def _load(model: Any, name: str, state: Mapping[str, Tensor], in_channels: int) -> None:
    classifier = model.pretrained_cfg["classifier"]
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    kept = {key: value for key, value in state.items() if not key.startswith(tuple(f"{head}." for head in heads))}
    first = f"{model.pretrained_cfg['first_conv']}.weight"
    if first in kept:
        kept[first] = adapt_input_conv(in_channels, kept[first])
    try:
        model.load_state_dict(kept, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit {name}: {error}") from error


@torch.no_grad()
def _widths(stages: list[nn.Module], in_channels: int) -> list[int]:
    """Find the channels that leave each stage by running a blank image through them."""
    chain = nn.Sequential(*stages)
    training = chain.training
    chain.eval()
    maps, widths = torch.zeros(1, in_channels, 64, 64), []
    for stage in chain:
        maps = stage(maps)
        widths.append(maps.shape[1])
    chain.train(training)
    return widths


def _efficientnet_stages(model: Any) -> list[nn.Module]:
    return [nn.Sequential(model.conv_stem, model.bn1), *model.blocks, nn.Sequential(model.conv_head, model.bn2)]


def _resnet_stages(model: Any) -> list[nn.Module]:
    stem = nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool)
    return [stem, model.layer1, model.layer2, model.layer3, model.layer4]


def _convnext_stages(model: Any) -> list[nn.Module]:
    *stages, last = model.stages
    return [model.stem, *stages, nn.Sequential(last, model.norm_pre)]


def _densenet_stages(model: Any) -> list[nn.Module]:
    return _cut_before(model.features, lambda name, _: name.startswith("denseblock"))


def _vgg_stages(model: Any) -> list[nn.Module]:
    pooled = {int(name) + 1 for name, layer in model.features.named_children() if isinstance(layer, nn.MaxPool2d)}
    return _cut_before(model.features, lambda name, _: int(name) in pooled)


def _cut_before(chain: nn.Module, starts: Callable[[str, nn.Module], bool]) -> list[nn.Module]:
    pieces: list[list[nn.Module]] = [[]]
    for name, layer in chain.named_children():
        if starts(name, layer):
            pieces.append([])
        pieces[-1].append(layer)
    return [nn.Sequential(*piece) for piece in pieces if piece]


FAMILIES: dict[type[nn.Module], Callable[[Any], list[nn.Module]]] = {
    EfficientNet: _efficientnet_stages,
    ResNet: _resnet_stages,
    ConvNeXt: _convnext_stages,
    DenseNet: _densenet_stages,
    VGG: _vgg_stages,
}


def count_parameters(module: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def inference(module: nn.Module) -> nn.Module:
    """Freeze a network for scoring: no dropout, stored normalisation statistics, channels last in memory."""
    return module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
