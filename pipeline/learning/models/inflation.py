"""Inflate a convolutional encoder of images into an encoder of volumes with the same features.

"Inflation" (Carreira & Zisserman 2017, "Quo vadis, action recognition?", section 2.4, there I3D): a filter is
repeated along the new axis and divided by the number of repeats, so that a stack of equal slices gives the features
of its slice. Differences from the paper: the axis is depth, not time; it has stride 1 throughout, since a volume has
few slices and they are far apart, so every stage keeps all of them; filters are `depth` slices deep whatever their
width, and those that cut an image into patches (even widths) one slice deep; the volume is padded by its outer slices,
because zeros would not look like equal slices; pooling stays within a slice until the last mean.
"""

import copy
from typing import Any

import torch
from timm.layers import EffectiveSEModule, LayerNorm2d, SEModule
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from pipeline.learning.models.encoder import Encoder, VolumeEncoder, channels_last
from pipeline.learning.models.families import Blocks, Embedding, NotInflatable

POINTWISE = (LayerNorm2d, SEModule, EffectiveSEModule, SqueezeExcite)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)
TOLERANCE = 1e-3


class DepthConv(nn.Conv3d):
    """A three-dimensional convolution with the in-plane padding of the two-dimensional one that it came from.

    weight[o, i, z, y, x] = weight2d[o, i, y, x] / depth.

    On the CPU, torch is fast in three dimensions with channels last only, and runs kernels one slice deep, which make
    most of the multiplications, several times slower than in two. Those therefore run as a batch of slices.
    """

    def __init__(self, flat: Any, depth: int) -> None:
        rows, columns = flat.kernel_size
        reach = depth // 2 if max(rows, columns) > 1 and rows % 2 == columns % 2 == 1 else 0
        deep = 2 * reach + 1
        super().__init__(
            flat.in_channels,
            flat.out_channels,
            (deep, rows, columns),
            stride=(1, *flat.stride),
            padding=(0, *flat.padding),
            dilation=(1, *flat.dilation),
            groups=flat.groups,
            bias=flat.bias is not None,
            device=flat.weight.device,
            dtype=flat.weight.dtype,
        )
        self.reach = reach
        self.same = isinstance(flat, Conv2dSame)
        weights = {"weight": flat.weight.detach().unsqueeze(2).repeat(1, 1, deep, 1, 1) / deep}
        self.load_state_dict(weights | ({} if flat.bias is None else {"bias": flat.bias.detach()}))

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into (N, C', D, H', W')."""
        if self.same:
            volumes = pad_same(volumes, list(self.kernel_size[1:]), list(self.stride[1:]), list(self.dilation[1:]))
        if not self.reach:
            how: Any = (self.stride[1:], self.padding[1:], self.dilation[1:], self.groups)
            slices = nn.functional.conv2d(_as_slices(volumes), self.weight[:, :, 0], self.bias, *how)
            return _as_volumes(slices, volumes.shape[0])
        below, above = [volumes[:, :, :1]] * self.reach, [volumes[:, :, -1:]] * self.reach
        return super().forward(channels_last(torch.cat([*below, volumes, *above], dim=2)))


def _as_slices(volumes: Tensor) -> Tensor:
    """Reshape volumes (N, C, D, H, W) to a batch of images (N D, C, H, W); with channels last nothing is copied."""
    return volumes.transpose(1, 2).flatten(0, 1)


def _as_volumes(slices: Tensor, batch: int) -> Tensor:
    volumes: Tensor = slices.unflatten(0, (batch, -1))
    return volumes.transpose(1, 2)


class Within(nn.Module):
    """In-plane pooling: the slices are treated as a batch of images."""

    def __init__(self, flat: nn.Module) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into (N, C, D, H', W')."""
        return _as_volumes(self.flat(_as_slices(volumes)), volumes.shape[0])


class Across(nn.Module):
    """A layer of pointwise operations and global means: the slices are treated as rows of one tall image."""

    def __init__(self, flat: nn.Module) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into the same shape."""
        tall: Tensor = self.flat(volumes.flatten(2, 3))
        return tall.reshape(volumes.shape)


class DepthConvNeXtBlock(nn.Module):
    """timm's ConvNeXt block around a three-dimensional convolution; its other layers are pointwise."""

    def __init__(self, flat: Any, depth: int) -> None:
        super().__init__()
        self.conv_dw = DepthConv(flat.conv_dw, depth)
        self.shortcut = _inflated(flat.shortcut, depth)
        self.rest = flat
        flat.conv_dw, flat.shortcut = nn.Identity(), _Nothing()

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into (N, C', D, H', W')."""
        mixed = self.conv_dw(volumes)
        update: Tensor = self.rest(mixed.flatten(2, 3)).reshape(mixed.shape) + self.shortcut(volumes)
        return update


class _Nothing(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.new_zeros(())


class Inflated(VolumeEncoder):
    """An encoder that was inflated from `flat`: each stage maps volumes (N, C, D, H, W) to (N, C', D, H', W')."""

    def __init__(self, stages: list[nn.Module], norm: nn.Module, flat: Encoder) -> None:
        nn.Module.__init__(self)
        self.stages = nn.ModuleList(stages)
        self.norm = norm
        self.pooled = slice(None)
        self.first_pooled, self.widths, self.width = flat.first_pooled, flat.widths, flat.width


def inflate(encoder: Encoder, depth: int = 3) -> Inflated:
    """Inflate a copy of a convolutional encoder, and check on equal slices that its features are the same.

    Parameters
    ----------
    encoder : Encoder
        Of the families EfficientNet, ResNet, ConvNeXt, DenseNet or VGG; it is not changed.
    depth : int
        Depth of the filters in slices, odd; the paper takes the number of rows. The cost grows with it.

    Raises
    ------
    NotInflatable
        If a layer cannot be inflated (a vision transformer's, a blurred pooling), or the features differ.
    """
    if depth < 1 or depth % 2 == 0:
        raise NotInflatable(f"the depth of a filter must be odd, to have a middle; it is {depth}")
    twin = copy.deepcopy(encoder).eval()
    try:
        *stages, norm = (_inflated(part, depth) for part in copy.deepcopy([*twin.stages, twin.norm]))
        inflated = Inflated(stages, norm, twin).eval()
        error = _difference(twin, inflated)
    except NotInflatable:
        raise
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as reason:
        [line, *_] = str(reason).splitlines() or [type(reason).__name__]
        raise NotInflatable(f"it has a layer that takes no volumes ({line})") from reason
    if not error < TOLERANCE:
        raise NotInflatable(f"on equal slices the inflated features differ by {error:.2g} of their size")
    return inflated.train(encoder.training)


def _inflated(module: nn.Module, depth: int) -> nn.Module:
    """Return the three-dimensional counterpart of a layer; layers inside it are replaced in place."""
    if isinstance(module, Embedding | Blocks):
        raise NotInflatable("a vision transformer has no filters that could see more slices")
    if isinstance(module, ConvNeXtBlock):
        return DepthConvNeXtBlock(module, depth)
    if isinstance(module, nn.Conv2d):
        if type(module) not in (nn.Conv2d, Conv2dSame):
            raise NotInflatable(f"{type(module).__name__} is not a plain convolution")
        return DepthConv(module, depth)
    if isinstance(module, nn.BatchNorm2d):
        return _batch_norm(module)
    if isinstance(module, POOLS):
        return Within(module)
    if isinstance(module, POINTWISE):
        return Across(module)
    for name, child in module.named_children():
        setattr(module, name, _inflated(child, depth))
    return module


def _batch_norm(flat: Any) -> nn.Module:
    """Normalise over slices as well; timm's layer also contains the activation that follows."""
    norm = nn.BatchNorm3d(flat.num_features, flat.eps, flat.momentum, flat.affine, flat.track_running_stats)
    norm.to(flat.weight).load_state_dict(flat.state_dict())
    following = [getattr(flat, name) for name in ("drop", "act") if hasattr(flat, name)]
    return nn.Sequential(norm, *following)


@torch.no_grad()
def _difference(flat: Encoder, inflated: Inflated) -> float:
    """Compute the largest difference of features on equal slices, relative to the largest feature."""
    channels = next(layer.in_channels for layer in flat.modules() if isinstance(layer, nn.Conv2d))
    like = next(flat.parameters())
    image = torch.randn(1, channels, 64, 64, generator=torch.Generator().manual_seed(0)).to(like)
    expected = flat(image)
    found = inflated(image.unsqueeze(2).expand(-1, -1, 3, -1, -1))
    return float((found - expected).abs().max() / expected.abs().max())
