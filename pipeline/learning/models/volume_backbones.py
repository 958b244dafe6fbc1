"""Build networks that were pretrained on volumes, and cut them into stages; their filters are three slices deep.

The modules have the names of the published files, so that weights are loaded as they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from pipeline.learning.models.families import Cut

DEPTH = 3  # of every filter, in slices
CT_FM: dict[str, Any] = {"spatial_dims": 3, "init_filters": 32, "blocks_down": (1, 2, 2, 4, 4)}
WIDTHS, BLOCKS = (32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6)  # of nnU-Net's ResEnc-L
HALVINGS = len(WIDTHS) - 1
OUTSIDE = ("decoder.", "seg_layers.", "up_layers.")  # of networks that segment


@dataclass(frozen=True)
class VolumeBackbone:
    """A network whose modules have the names of its files.

    Attributes
    ----------
    network : nn.Module
    first : nn.Conv3d
        The layer that takes the channels.
    cut : callable
        Cuts the network into stages, without copying layers.
    """

    network: nn.Module
    first: nn.Module
    cut: Callable[[], Cut]


def ct_fm(in_channels: int) -> VolumeBackbone:
    """Build MONAI's encoder of a SegResNet, as CT-FM has it."""
    from monai.networks.nets.segresnet_ds import SegResEncoder

    network: Any = SegResEncoder(in_channels=in_channels, **CT_FM)

    def cut() -> Cut:
        before = [network.conv_init, *(level["downsample"] for level in network.layers)]
        pairs = zip(before[:-1], network.layers, strict=True)  # no level follows the last one
        return Cut([nn.Sequential(first, level["blocks"]) for first, level in pairs])

    return VolumeBackbone(network, network.conv_init, cut)


def res_enc_l(in_channels: int) -> VolumeBackbone:
    """Build the encoder of nnU-Net's ResEnc-L, as nnssl pretrains it (Isensee et al. 2024, "nnU-Net Revisited")."""
    stem = _ConvNorm(in_channels, WIDTHS[0])
    before = (WIDTHS[0], *WIDTHS[:-1])
    stages = [
        _blocks(width, out, count, stride=1 if number == 0 else 2)
        for number, (width, out, count) in enumerate(zip(before, WIDTHS, BLOCKS, strict=True))
    ]
    network = nn.ModuleDict(
        {
            "stem": nn.ModuleDict({"convs": nn.ModuleList([stem])}),
            "stages": nn.ModuleList([nn.ModuleDict({"blocks": stage}) for stage in stages]),
        }
    )
    return VolumeBackbone(network, stem.conv, lambda: Cut([nn.Sequential(_Padded(), stem, stages[0]), *stages[1:]]))


VOLUMES: dict[str, Callable[[int], VolumeBackbone]] = {
    "SegResEncoder of MONAI": ct_fm,
    "ResEnc-L of nnU-Net": res_enc_l,
}


def of_the_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the encoder out of the weights of a network that segments; nnU-Net stores its layers under two names."""
    prefix = "encoder." if any(name.startswith("encoder.") for name in state) else ""
    return {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix) and not name.startswith(OUTSIDE) and ".all_modules." not in name
    }


class _ConvNorm(nn.Module):
    """A convolution with instance normalisation, and the activation if it is asked for."""

    def __init__(self, width: int, out: int, *, size: int = DEPTH, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, out, size, stride, padding=size // 2, bias=size > 1)
        self.norm = nn.InstanceNorm3d(out, affine=True)
        self.active = active

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into (N, C', D', H', W')."""
        normed: Tensor = self.norm(self.conv(volumes))
        return functional.leaky_relu(normed) if self.active else normed


class _Residual(nn.Module):
    """A residual block; where it halves the volume, its shortcut is the mean of each 2 x 2 x 2 voxels."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(width, out, stride=stride)
        self.conv2 = _ConvNorm(out, out, active=False)
        pooled = [nn.AvgPool3d(stride, stride)] if stride > 1 else []
        fitted = [_ConvNorm(width, out, size=1, active=False)] if width != out else []
        self.skip = nn.Sequential(*pooled, *fitted)

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into (N, C', D', H', W')."""
        return functional.leaky_relu(self.conv2(self.conv1(volumes)) + self.skip(volumes))


class _Padded(nn.Module):
    """Repeat the last slices, rows and columns until every halving is exact, and leaves more than one voxel."""

    def forward(self, volumes: Tensor) -> Tensor:
        """Turn volumes (N, C, D, H, W) into such whose sides are multiples of 32."""
        least = 2**HALVINGS
        missing = [-side % least for side in volumes.shape[2:]]
        if max(volumes.shape[2:]) <= least:  # one voxel cannot be normalised
            missing[0] += least
        return functional.pad(volumes, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")


def _blocks(width: int, out: int, count: int, stride: int) -> nn.Sequential:
    first = _Residual(width, out, stride)
    return nn.Sequential(first, *(_Residual(out, out, 1) for _ in range(count - 1)))
