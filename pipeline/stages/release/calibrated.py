"""Join a network and its calibrator in one torch module, so that an export gives probabilities.

The calibrator equals that of `pipeline.metrics.calibrators.calibrator`, and computes in float64 as well.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Calibrated(nn.Module):
    """Compute probabilities and logits, (B, K) float32 each, of channels (B, P, H, W) with grey values 0 to 255.

    Parameters
    ----------
    network : nn.Module
        From channels to logits.
    calibrator : mapping
        Plain values, as `calibrator_from` takes them.
    """

    def __init__(self, network: nn.Module, calibrator: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.map = TorchCalibrator(calibrator)

    def forward(self, channels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute probabilities and logits of channels (B, P, H, W)."""
        logits = self.network(channels)
        return self.map(logits), logits


class TorchCalibrator(nn.Module):
    """Turn logits (B, K) into probabilities (B, K) float32."""

    def __init__(self, calibrator: Mapping[str, Any]) -> None:
        super().__init__()
        self.calibrator = dict(calibrator)

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate the logits of a batch."""
        return mapped(logits.double(), self.calibrator).float()


def mapped(logits: Tensor, calibrator: Mapping[str, Any]) -> Tensor:
    """Turn logits (B, K) float64 into probabilities (B, K), whose rows sum to one unless the task is multilabel."""
    if "labels" in calibrator:
        columns = zip(logits.unbind(1), calibrator["labels"], strict=True)
        return torch.stack([mapped(_beside_zero(column), one)[:, 1] for column, one in columns], dim=1)
    if calibrator["activation"] == "identity":
        return logits * float(calibrator["slope"]) + float(calibrator["intercept"])
    if calibrator["method"] == "temperature":
        scaled = logits / calibrator["temperature"]
        return torch.sigmoid(scaled) if calibrator["activation"] == "sigmoid" else torch.softmax(scaled, dim=1)
    if calibrator["method"] == "isotonic":
        found = _interpolate(logits[:, 1] - logits[:, 0], calibrator["margins"], calibrator["probabilities"])
        return torch.stack([1 - found, found], dim=1)
    known, weights = logits.log_softmax(dim=1), _numbers(calibrator["weights"])
    scaled = (known.unsqueeze(1) * weights).sum(dim=2) if weights.ndim == 2 else known * weights
    return (scaled + _numbers(calibrator["intercepts"])).softmax(dim=1)


def _beside_zero(column: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(column), column], dim=1)


def _interpolate(values: Tensor, xs: list[float], ys: list[float]) -> Tensor:
    """Interpolate linearly between the points (xs, ys) at values (B,), constant beyond the ends, as `numpy.interp`."""
    if len(xs) == 1:
        return torch.zeros_like(values) + ys[0]
    x, y = _numbers(xs), _numbers(ys)
    slopes = y.diff() / x.diff()
    inside = values.clamp(xs[0], xs[-1])
    piece = ((inside.unsqueeze(1) >= x).sum(dim=1) - 1).clamp(0, len(xs) - 2)
    return y[piece] + slopes[piece] * (inside - x[piece])


def _numbers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
