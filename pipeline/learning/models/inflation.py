"""Turns a convolutional encoder of images into one of volumes that starts where the images' one ended.

"Inflation" (Carreira & Zisserman 2017, "Quo vadis, action recognition?", section 2.4, there I3D): a filter is
repeated along the new axis and divided by the number of repeats, so that a stack of equal slices gives the features
of its slice. Differences from the paper: the axis is depth, not time; it has stride 1 throughout, since a volume has
few slices and they are far apart, so every stage keeps all of them; filters are `depth` slices deep however wide they
are, and those that cut a image into patches (even widths) one slice deep; beyond its ends a volume repeats its
outer slices, for zeros there would not look like equal slices; pooling stays within a slice until the last mean.
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

from pipeline.learning.models.encoder import Encoder, channels_last
from pipeline.learning.models.families import Blocks, Embedding, NotInflatable

POINTWISE = (LayerNorm2d, SEModule, EffectiveSEModule, SqueezeExcite)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)
TOLERANCE = 1e-3


class DepthConv(nn.Conv3d):
    """A convolution over slices and within them, with the padding of the one in a channel that it came from.

    weight[o, i, z, y, x] = weight2d[o, i, y, x] / depth.

    On a processor torch convolves in three dimensions well with channels last only, and kernels one slice deep, which
    are most of the multiplications, several times slower than in two: those run slice by slice, as one batch.
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
            return _as_volumes(slices, len(volumes))
        below, above = [volumes[:, :, :1]] * self.reach, [volumes[:, :, -1:]] * self.reach
        return super().forward(channels_last(torch.cat([*below, volumes, *above], dim=2)))


def _as_slices(volumes: Tensor) -> Tensor:
    """Turn volumes (N, C, D, H, W) into a batch of images (N D, C, H, W); with channels last nothing is copied."""
    return volumes.transpose(1, 2).flatten(0, 1)


def _as_volumes(slices: Tensor, batch: int) -> Tensor:
    volumes: Tensor = slices.unflatten(0, (batch, -1))
    return volumes.transpose(1, 2)


class Within(nn.Module):
    """A pooling of a channel, within every slice: the slices pass for images of a batch."""

    def __init__(self, flat: nn.Module) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into (N, C, D, H', W')."""
        return _as_volumes(self.flat(_as_slices(volumes)), len(volumes))


class Across(nn.Module):
    """A layer that knows points and the mean of all, no neighbours: the slices pass for rows of one tall image."""

    def __init__(self, flat: nn.Module) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into the same shape."""
        tall: Tensor = self.flat(volumes.flatten(2, 3))
        return tall.reshape(volumes.shape)


class DepthConvNeXtBlock(nn.Module):
    """timm's ConvNeXt block around a convolution over slices; everything else in it is pointwise."""

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


class Inflated(Encoder):
    """An encoder of volumes.

    Attributes
    ----------
    stages : nn.ModuleList
        From volumes (N, C, D, H, W) to (N, C', D, H', W'), one after the other.
    width : int
        Length of a feature vector.
    """

    volumetric = True

    def __init__(self, stages: list[nn.Module], norm: nn.Module, first_pooled: int, width: int) -> None:
        nn.Module.__init__(self)
        self.stages = nn.ModuleList(stages)
        self.norm = norm
        self.pooled = slice(None)
        self.first_pooled = first_pooled
        self.width = width

    def run(self, maps: Tensor, pooled: Tensor, first: int = 0, last: int | None = None) -> tuple[Tensor, Tensor]:
        """Run stages `first` to before `last` as `Encoder.run`, on maps (N, C, D, H, W) in any layout.

        With channels last, as each stage leaves them, a run that was stored on its way gives the bits of one that was
        not.
        """
        if maps.ndim != 5:
            raise ValueError(f"an inflated encoder takes volumes (N, C, D, H, W), not {tuple(maps.shape)}")
        return super().run(channels_last(maps), pooled, first, last)


def inflate(encoder: Encoder, depth: int = 3) -> Inflated:
    """Copy a convolutional encoder into three dimensions, and prove on equal slices that its features are the same.

    Parameters
    ----------
    encoder : Encoder
        Of the families EfficientNet, ResNet, ConvNeXt, DenseNet or VGG; it stays as it is.
    depth : int
        Slices that a filter sees, odd; the paper takes as many as its rows. The cost grows with it.

    Raises
    ------
    NotInflatable
        If a layer cannot be inflated (a vision transformer's, a blurred pooling), or the proof fails.
    """
    if depth < 1 or depth % 2 == 0:
        raise NotInflatable(f"the depth of a filter must be odd, to have a middle; it is {depth}")
    twin = copy.deepcopy(encoder).eval()
    try:
        *stages, norm = (_inflated(part, depth) for part in copy.deepcopy([*twin.stages, twin.norm]))
        inflated = Inflated(stages, norm, twin.first_pooled, twin.width).eval()
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
    """Find the counterpart of a layer; of a layer made of layers, change those inside it, in place."""
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
    """Normalise over slices too; timm's layer also holds the activation that follows."""
    norm = nn.BatchNorm3d(flat.num_features, flat.eps, flat.momentum, flat.affine, flat.track_running_stats)
    norm.to(flat.weight).load_state_dict(flat.state_dict())
    following = [getattr(flat, name) for name in ("drop", "act") if hasattr(flat, name)]
    return nn.Sequential(norm, *following)


@torch.no_grad()
def _difference(flat: Encoder, inflated: Inflated) -> float:
    """Measure the largest difference of features of equal slices, relative to the largest feature."""
    channels = next(layer.in_channels for layer in flat.modules() if isinstance(layer, nn.Conv2d))
    like = next(flat.parameters())
    image = torch.randn(1, channels, 64, 64, generator=torch.Generator().manual_seed(0)).to(like)
    expected = flat(image)
    found = inflated(image.unsqueeze(2).expand(-1, -1, 3, -1, -1))
    return float((found - expected).abs().max() / expected.abs().max())
