"""Cut a case into the instances that an encoder sees, and bring them to the scale of its pretraining."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.models.encoder import channels_last
from pipeline.learning.models.harmonise import Harmoniser
from pipeline.learning.models.resize import shrunk


class InstanceCutter(nn.Module):
    """Cut cases into instances, harmonise their grey values and normalise them.

    Parameters
    ----------
    channels : int
        Channels of an instance; for a volume that is seen whole, its number of intensity windows.
    mean, std : sequence of float
        Mean and standard deviation of the encoder's pretraining images, for grey values in [0, 1]: one value, or one
        per channel of an instance.
    harmonise : mapping, optional
        Arguments of `Harmoniser`, which maps the grey values of each case to a standard scale first.
    whole : bool
        Whether all slices of a volume form one three-dimensional instance.
    side : int, optional
        Rows and columns to which larger cases are shrunk first.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
        harmonise: Mapping[str, Any] | None = None,
        whole: bool = False,
        side: int | None = None,
    ) -> None:
        super().__init__()
        self.side = side
        self.channels = channels
        self.whole = whole
        self.harmoniser = Harmoniser(**harmonise) if harmonise else None
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, channels: Tensor) -> Tensor:
        """Cut channels (B, P, H, W) with grey values from 0 to 255 into normalised instances.

        Returns
        -------
        Tensor
            (B * S, C, H, W) with S = P / C instances per case; (B, C, P / C, H, W) if `whole`.
        """
        channels = channels.float() if self.harmoniser is None else self.harmoniser(channels)
        channels = shrunk(channels, self.side)
        batch, count, height, width = channels.shape
        cut = channels.reshape(batch * count // self.channels, self.channels, height, width)
        scaled: Tensor = (cut / 255 - self.mean) / self.std
        if self.whole:
            scaled = scaled.reshape(batch, -1, *scaled.shape[1:]).transpose(1, 2)
        return channels_last(scaled)
