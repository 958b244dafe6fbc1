"""Count the cost of a training in passes of one image through the whole encoder, the same on every machine."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.learning.models.encoder import Encoder

PROBED_AT = 64  # rows and columns; the shares hardly depend on them
BACKWARD = 2.0  # cost of the backward pass of a trained stage, relative to its forward pass


@torch.no_grad()
def shares_of(encoder: Encoder, in_channels: int) -> list[float]:
    """Compute each stage's share of the encoder's multiplications; shares sum to one."""
    device = next(encoder.parameters()).device
    shape = (1, in_channels, PROBED_AT, PROBED_AT)
    volume = any(isinstance(layer, nn.Conv3d) for layer in encoder.modules())
    maps = torch.zeros((1, in_channels, 3, PROBED_AT, PROBED_AT) if volume else shape, device=device)
    counts = []
    for stage in encoder.stages:
        with FlopCounterMode(display=False) as counter:
            maps = stage(maps)
        counts.append(float(counter.get_total_flops()))
    return [count / sum(counts) for count in counts]


def passes_of_epoch(shares: list[float], *, first: int, trained: int, train: int, validation: int) -> float:
    """Count the passes of an epoch: forward from stage `first`, backward through the last `trained`, and validation.

    Parameters
    ----------
    train, validation : int
        Number of images (instances) of the training and validation cases.
    """
    forward, backward = sum(shares[first:]), BACKWARD * sum(shares[len(shares) - trained :])
    return train * (forward + backward) + validation * forward
