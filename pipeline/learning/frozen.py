"""The frozen stages of a network, run once for every case and view; what is trained starts from there."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.learning.classifier import Activations, Classifier


@torch.inference_mode()
def frozen_views(network: Classifier, cases: Iterable[tuple[str, Tensor]], first: int) -> tuple[Tensor, Tensor]:
    """Run the stages before `first` on every view of every case.

    Parameters
    ----------
    network : Classifier
        Each case goes through it with the values of its site. Features of a network whose values differ between
        sites are standardised at once, and the network is left with the values of an unknown site, which are neutral.
    cases : iterable of (site, (V, P, H, W) uint8 Tensor)
        Every case with as many views.
    first : int
        The stage at the freeze boundary; the number of stages where all are frozen.

    Returns
    -------
    maps : (V, n, S, C, h, w) float16
        Without channels where nothing is left to run.
    pooled : (V, n, S, w) float16
    """
    device = network.head.weight.device
    maps, pooled = [], []
    for site, views in cases:
        network.site = site
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = network.activations(views.to(device), last=first)
        done = first == len(network.encoder.stages)
        features = (found.pooled - network.centre) / network.spread if network.of_site.sites else found.pooled
        maps.append((found.maps[:, :, :0] if done else found.maps).half().cpu())
        pooled.append(features.half().cpu())
    network.at(None)
    return torch.stack(maps, dim=1), torch.stack(pooled, dim=1)


@torch.inference_mode()
def mean_features(network: Classifier, maps: Tensor, pooled: Tensor, first: int) -> NDArray[np.float64]:
    """Average the features over a case's instances: (n, S, C, h, w) and (n, S, w), one view, to (n, width)."""
    device = network.head.weight.device
    parts = [
        network.features(Activations(some.to(device).float(), few.to(device).float()), first).mean(dim=1)
        for some, few in zip(maps.split(16), pooled.split(16), strict=True)
    ]
    return torch.cat(parts).double().cpu().numpy()
