"""Represent a backbone as a chain of stages, so that any prefix can be frozen and computed once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.learning.models.families import Cut

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Begun:
    """Output of the stages before `first` for some images: maps (N, C, H, W) and pooled means (N, w)."""

    maps: Tensor
    pooled: Tensor
    first: int

    def __len__(self) -> int:
        return len(self.maps)


class Encoder(nn.Module):
    """A backbone whose features are pooled from several of its last stages.

    The deepest stage represents objects, earlier ones texture and edges; on small medical cohorts the concatenated
    means of several stages separate better than the deepest alone ("hypercolumns", Hariharan et al. 2015, section 3).

    Attributes
    ----------
    stages : nn.ModuleList
        In order they compose the backbone's `forward_features`.
    widths : list of int
        Number of features of each pooled stage.
    width : int
        Length of a feature vector: the sum of `widths`.
    volumetric : bool
        Whether the encoder takes volumes (N, C, D, H, W) instead of images (N, C, H, W).
    """

    volumetric = False
    blank: tuple[int, ...] = (64, 64)  # size of the image or volume by which the widths are found

    def __init__(self, cut: Cut, in_channels: int, pooled_stages: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(cut.stages)
        self.norm = cut.norm
        self.pooled = cut.pooled
        self.first_pooled = max(len(cut.stages) - pooled_stages, 0)
        self.widths = _widths(cut, torch.zeros(1, in_channels, *self.blank))[self.first_pooled :]
        self.width = sum(self.widths)

    def run(self, maps: Tensor, pooled: Tensor, first: int = 0, last: int | None = None) -> tuple[Tensor, Tensor]:
        """Run the stages from `first` up to, not including, `last`; append the mean of each pooled stage to `pooled`.

        Parameters
        ----------
        maps : (N, C, H, W)
            Tokens are maps with one column, (N, C, tokens, 1); maps of a `VolumeEncoder` are (N, C, D, H, W).
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
                mean = maps[:, :, self.pooled].mean(dim=tuple(range(2, maps.ndim)), keepdim=True)
                mean = self.norm(mean) if number == len(self.stages) - 1 else mean
                pooled = torch.cat([pooled, mean.flatten(1)], dim=1)
        return maps, pooled

    def begin(self, images: Tensor, first: int) -> Begun:
        """Run images (N, C, H, W) through the stages before `first`."""
        return Begun(*self.run(images, images.new_zeros(images.shape[0], 0), last=first), first)

    def forward(self, images: Tensor | Begun) -> Tensor:
        """Compute features (N, width) of images (N, C, H, W), or volumes (N, C, D, H, W), or `Begun` ones."""
        if isinstance(images, Begun):
            return self.run(images.maps, images.pooled, images.first)[1]
        return self.run(images, images.new_zeros(images.shape[0], 0))[1]


class VolumeEncoder(Encoder):
    """An encoder of volumes; each stage maps volumes (N, C, D, H, W) to (N, C', D', H', W')."""

    volumetric = True
    blank = (8, 64, 64)

    def run(self, maps: Tensor, pooled: Tensor, first: int = 0, last: int | None = None) -> tuple[Tensor, Tensor]:
        """Run stages as `Encoder.run` does, on maps (N, C, D, H, W) in any layout.

        Maps are brought to channels last, the layout that each stage returns, so that a run that continues from stored
        activations gives the same bits.
        """
        if maps.ndim != 5:
            raise ValueError(f"an encoder of volumes takes (N, C, D, H, W), not {tuple(maps.shape)}")
        return super().run(channels_last(maps), pooled, first, last)


@torch.no_grad()
def _widths(cut: Cut, maps: Tensor) -> list[int]:
    """Find the number of features of each stage, of the last after the norm, by running a blank image."""
    chain = nn.ModuleList([*cut.stages, cut.norm])
    training = chain.training
    chain.eval()
    widths = []
    for stage in cut.stages:
        maps = stage(maps)
        widths.append(maps.shape[1])
    widths[-1] = cut.norm(maps.mean(dim=tuple(range(2, maps.ndim)), keepdim=True)).shape[1]
    chain.train(training)
    return widths


def count_parameters(module: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def inference(module: nn.Module) -> nn.Module:
    """Freeze a network for scoring: no dropout, stored normalisation statistics, channels last in memory."""
    return kernels_last(module.eval().requires_grad_(False))


def channels_last(maps: Tensor) -> Tensor:
    """Lay out maps (N, C, H, W) or (N, C, D, H, W) with their channels last in memory."""
    return maps.contiguous(memory_format=LAST[maps.ndim])


def kernels_last(module: nn.Module) -> nn.Module:
    """Lay out every kernel with its channels last; `Module.to` cannot if kernels have both two and three dimensions."""
    for value in (*module.parameters(), *module.buffers()):
        if value.ndim in LAST:  # `channels_last` would skip 1x1 kernels, which slows oneDNN down
            value.data = value.data.to(memory_format=LAST[value.ndim])
    return module
