"""A network with its calibration map inside, in torch alone, so that an export gives probabilities.

The map is that of `pipeline.metrics.calibrators.calibrator`, number for number and in float64.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Calibrated(nn.Module):
    """From channels (B, P, H, W), grey values 0 to 255, to probabilities and logits, (B, K) float32 each.

    Parameters
    ----------
    network : nn.Module
        From channels to logits.
    calibrator : mapping
        The map's plain values, as `calibrator_from` takes them.
    """

    def __init__(self, network: nn.Module, calibrator: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.map = CalibrationMap(calibrator)

    def forward(self, channels: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate channels (B, P, H, W)."""
        logits = self.network(channels)
        return self.map(logits), logits


class CalibrationMap(nn.Module):
    """From logits (B, K) to probabilities (B, K) float32."""

    def __init__(self, calibrator: Mapping[str, Any]) -> None:
        super().__init__()
        self.calibrator = dict(calibrator)

    def forward(self, logits: Tensor) -> Tensor:
        """Map the logits of a batch of cases."""
        return mapped(logits.double(), self.calibrator).float()


def mapped(logits: Tensor, calibrator: Mapping[str, Any]) -> Tensor:
    """Turn logits (B, K) float64 into probabilities (B, K); rows sum to one unless labels stand by themselves."""
    if "labels" in calibrator:
        columns = zip(logits.unbind(1), calibrator["labels"], strict=True)
        return torch.stack([mapped(_beside_zero(column), one)[:, 1] for column, one in columns], dim=1)
    if calibrator["method"] == "temperature":
        scaled = logits / calibrator["temperature"]
        return torch.sigmoid(scaled) if calibrator["activation"] == "sigmoid" else torch.softmax(scaled, dim=1)
    if calibrator["method"] == "isotonic":
        found = _on_the_line(logits[:, 1] - logits[:, 0], calibrator["margins"], calibrator["probabilities"])
        return torch.stack([1 - found, found], dim=1)
    known, weights = logits.log_softmax(dim=1), _numbers(calibrator["weights"])
    scaled = (known.unsqueeze(1) * weights).sum(dim=2) if weights.ndim == 2 else known * weights
    return (scaled + _numbers(calibrator["intercepts"])).softmax(dim=1)


def _beside_zero(column: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(column), column], dim=1)


def _on_the_line(values: Tensor, places: list[float], heights: list[float]) -> Tensor:
    """Read values (B,) off the line through (place, height), level beyond its ends, as `numpy.interp` does."""
    if len(places) == 1:
        return torch.zeros_like(values) + heights[0]
    x, y = _numbers(places), _numbers(heights)
    slopes = y.diff() / x.diff()
    inside = values.clamp(places[0], places[-1])
    piece = ((inside.unsqueeze(1) >= x).sum(dim=1) - 1).clamp(0, len(places) - 2)
    return y[piece] + slopes[piece] * (inside - x[piece])


def _numbers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
